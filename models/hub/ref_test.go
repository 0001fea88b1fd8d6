package hub

import (
	"strings"
	"testing"
)

func TestParseRef(t *testing.T) {
	for s, want := range map[string]Ref{
		"org/name":                       {Repo: "org/name", Revision: "main"},
		"o/n":                            {Repo: "o/n", Revision: "main"},
		"stable-diffusion-v1-5/sd_1.5":   {Repo: "stable-diffusion-v1-5/sd_1.5", Revision: "main"},
		"org/name@v1.0":                  {Repo: "org/name", Revision: "v1.0"},
		"org/name@refs/pr/3":             {Repo: "org/name", Revision: "refs/pr/3"},
		"org/name@" + testCommit:         {Repo: "org/name", Revision: testCommit},
		"org/name/lora.safetensors":      {Repo: "org/name", Revision: "main", Path: "lora.safetensors"},
		"org/name/a b/c (1).safetensors": {Repo: "org/name", Revision: "main", Path: "a b/c (1).safetensors"},
		"org/name/unet/@main":            {Repo: "org/name", Revision: "main", Path: "unet"},
		"org/name/unet@v2":               {Repo: "org/name", Revision: "v2", Path: "unet"},
	} {
		got, err := ParseRef(s)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", s, got, err, want)
		}
		if again, err := ParseRef(got.String()); err != nil || again != got {
			t.Errorf("%s is written %s and read %+v, %v", s, got, again, err)
		}
	}
	for s, want := range map[string]string{
		"":                               "want org/name",
		"name":                           "want org/name",
		"/name":                          "neither '-' nor '.' at its ends",
		"org/":                           "1 to 96 letters",
		"org/.name":                      "neither '-' nor '.'",
		"org/name-":                      "neither '-' nor '.'",
		"org/na--me":                     "no names with '--'",
		"org/na..me":                     "no names with '--' or '..'",
		"org/name.git":                   "end in .git",
		"org/na me":                      "letters",
		"org/näme":                       "letters",
		"../name":                        "letters",
		"org/" + strings.Repeat("n", 97): "1 to 96",
		"https://huggingface.co/a/b":     "want org/name",
		"org/name@":                      `revision ""`,
		"org/name@../../x":               "want a branch",
		"org/name@a/../b":                "want a branch",
		"org/name@/etc":                  "want a branch",
		"org/name@-x":                    "want a branch",
		"org/name@a b":                   "want a branch",
		"org/name@a\nb":                  "want a branch",
		"org/name/../../x":               "want a file",
		"org/name/..":                    "want a file",
		`org/name/..\x`:                  "want a file",
		"org/name//x":                    "want a file",
	} {
		if got, err := ParseRef(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", s, got, err, want)
		}
	}
}

func TestIsRef(t *testing.T) {
	for s, want := range map[string]bool{
		"org/name": true, "org/name@v1": true, "org/name/lora.safetensors": true,
		"org/name/unet": true, "a.b/c-d_e": true, "": false, "name": false, "./name": false, "../org/name": false,
		"/org/name": false, "~/models/name": false, `C:\models\name`: false, "out/model.safetensors": false,
		"out/model.ckpt": false, "org//name": false, "org/name/": true,
	} {
		if got := IsRef(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// FuzzParseRef asks that what is taken stays below the repo's folder, and is written as it is read.
func FuzzParseRef(f *testing.F) {
	for _, s := range []string{
		"org/name", "org/name@refs/pr/1", "org/name/a/b.safetensors@v1", "../..@..", "a/b@c/../d", "a/b/..", "a/b@\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			return
		}
		for _, part := range []string{r.Repo, r.Revision, r.Path} {
			if strings.HasPrefix(part, "/") || hasDots(part) || strings.ContainsAny(part, "\\\x00\n") {
				t.Errorf("%q gives %q", s, part)
			}
		}
		if again, err := ParseRef(r.String()); err != nil || again != r {
			t.Errorf("%q is written %q and read %+v, %v", s, r, again, err)
		}
	})
}
