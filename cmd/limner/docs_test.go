package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"limner/data/circles"
	"limner/data/imaging"
)

// root is the repository, from here.
const root = "../.."

// pages are README.md and all that stands in docs, and what lies in models.
func pages(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob(root + "/docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages in docs: %v", err)
	}
	for _, name := range []string{
		"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "models/QUIRKS.md", "testdata/README.md",
	} {
		pages = append(pages, filepath.Join(root, name))
	}
	return pages
}

// pageCommands are the lines of a page's sh blocks, each command on one.
func pageCommands(t *testing.T, page string) []string {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for i, block := range strings.Split(string(raw), "```") {
		code, isShell := strings.CutPrefix(block, "sh\n")
		if i%2 == 0 || !isShell {
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(code, "\\\n", "")) {
			line, _, _ = strings.Cut(line, " #")
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				commands = append(commands, line)
			}
		}
	}
	return commands
}

var shellWords = regexp.MustCompile(`"[^"]*"|\S+`)

// limnerArgs are the arguments of a command of ours. One whose arguments are left out by … is none.
func limnerArgs(line string) (args []string, ok bool) {
	_, line, ok = strings.Cut(line, "bin/limner ")
	if !ok {
		return nil, false
	}
	line, _, _ = strings.Cut(line, ";")
	for _, word := range shellWords.FindAllString(line, -1) {
		if word == "…" {
			return nil, false
		}
		args = append(args, strings.Trim(word, `"`))
	}
	return args, true
}

// Every command of the pages has flags that there are.
func TestPageCommandsParse(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		for _, line := range pageCommands(t, page) {
			args, ok := limnerArgs(line)
			if !ok || slices.Contains(args, "--recipe") || slices.Contains(args, "--like") {
				continue // a recipe's file and a picture are there only where the commands run
			}
			if _, err := parser.Parse(withDashes(args)); err != nil {
				t.Errorf("%s: %s: %v", page, line, err)
			}
		}
	}
}

// fewer makes a command of a page short: it does the same to less.
func fewer(args []string) []string {
	switch {
	case slices.Contains(args, "synth"):
		return []string{"--count", "48"}
	case args[0] == "train":
		return []string{"--max_train_steps", "2"}
	case args[0] == "sample" && !slices.Contains(args, "--xy"): // which sets the steps
		return []string{"--num_inference_steps", "2"}
	}
	return nil
}

// TestPageCommandsRun runs what README.md and the pages on data, training, sampling and the cache tell, in this order,
// but for the numbers of fewer.
func TestPageCommandsRun(t *testing.T) {
	dirs := map[string]string{"README.md": pageFolder(t)}
	docs := pageFolder(t)
	for _, page := range []string{"README.md", "docs/data.md", "docs/train.md", "docs/sample.md", "docs/cache.md"} {
		dir, ok := dirs[page]
		if !ok {
			dir = docs
		}
		ran := 0
		for _, line := range pageCommands(t, filepath.Join(root, page)) {
			args, ok := limnerArgs(line)
			if !ok || args[0] == "plan" {
				continue
			}
			ran++
			args = append(args, fewer(args)...)
			if stdout, stderr, code := limner(t, dir, args...); code != 0 {
				t.Fatalf("%s: %s: exit code %d\n%s%s", page, line, code, stdout, stderr)
			}
		}
		if ran == 0 {
			t.Errorf("%s has no command that runs here", page)
		}
	}
}

// pageFolder is a folder in which the pages' commands find what they name of the repository.
func pageFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"demo", "docs"} {
		from, err := filepath.Abs(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(from, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	photographs(t, filepath.Join(dir, "photos"))
	return dir
}

// photographs makes a folder of pictures with captions.
func photographs(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	set := circles.Default()
	for i := range 12 {
		c := set.Example(i)
		name := filepath.Join(dir, fmt.Sprintf("IMG_%04d", i))
		if err := imaging.WritePNG(name+".png", c.Image()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name+".txt", []byte(c.Caption()+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var (
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	quoted   = regexp.MustCompile("`([^`]+)`")
	ourFiles = regexp.MustCompile(`^(?:models|sample|train|data|xla|controlnet|cmd|components|pipelines|tokenizer|schedulers|sd\w+-\w+)/[\w./*-]+$|^\w+\.go$`)
	inFile   = regexp.MustCompile("`([A-Za-z]\\w*)` in `([\\w/]+\\.(?:go|c))`")
)

// Links between the pages, and to headings of theirs, lead somewhere.
func TestPageLinks(t *testing.T) {
	for _, page := range pages(t) {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range links.FindAllStringSubmatch(string(raw), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, heading, _ := strings.Cut(m[1], "#")
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if heading != "" && !slices.Contains(headings(t, target), heading) {
				t.Errorf("%s links to %s, a heading that is not there", page, m[1])
			}
		}
	}
}

// headings are the anchors of a page's headings.
func headings(t *testing.T, page string) []string {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var anchors []string
	for line := range strings.Lines(string(raw)) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			signs := regexp.MustCompile(`[^\p{L}\p{N}\s_-]`)
			anchors = append(anchors,
				strings.ReplaceAll(strings.ToLower(signs.ReplaceAllString(strings.TrimSpace(title), "")), " ", "-"))
		}
	}
	return anchors
}

// TestQuirksNameWhatThereIs looks up every file that models/QUIRKS.md names, and every name that it places in a file.
func TestQuirksNameWhatThereIs(t *testing.T) {
	raw, err := os.ReadFile(root + "/models/QUIRKS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range quoted.FindAllStringSubmatch(string(raw), -1) {
		if ourFiles.MatchString(m[1]) && len(found(m[1])) == 0 {
			t.Errorf("QUIRKS names the file %s, which is not there", m[1])
		}
	}
	placed := inFile.FindAllStringSubmatch(string(raw), -1)
	if len(placed) == 0 {
		t.Error("QUIRKS places nothing in a file")
	}
	for _, m := range placed {
		var code []byte
		for _, path := range found(m[2]) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			code = append(code, raw...)
		}
		declared := regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type |var |const |\t)` + m[1] + `\b`)
		if !declared.Match(code) {
			t.Errorf("QUIRKS names %s in %s, which does not declare it", m[1], m[2])
		}
	}
}

// found are the files of a name that may be a pattern, from the root, models, or the goldens.
func found(name string) []string {
	var all []string
	for _, dir := range []string{"", "models/*/", "testdata/goldens/"} {
		paths, err := filepath.Glob(filepath.Join(root, dir+name) + "*") // goldens go by names without endings
		if err == nil {
			all = append(all, paths...)
		}
	}
	return all
}

// The version is the one that CHANGELOG.md describes first.
func TestVersion(t *testing.T) {
	raw, err := os.ReadFile(root + "/CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "\n## ")
	if first, _, _ := strings.Cut(rest, " "); first != version {
		t.Errorf("CHANGELOG.md begins with %q, the version is %s", first, version)
	}
	if stdout, _, code := limner(t, t.TempDir(), "version"); code != 0 ||
		!strings.HasPrefix(stdout, "limner "+version) {
		t.Errorf("limner version prints %q, exit code %d", stdout, code)
	}
}
