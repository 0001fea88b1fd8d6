package xla

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/renameio/v2"
)

// processor is what machine code that XLA makes here depends on: the processor's kind and abilities and, since loops are divided over
// them, the number of its cores that this process may use.
func processor() string {
	abilities, err := os.ReadFile("/proc/cpuinfo")
	if err != nil { // another system: its code stays on the machine
		host, _ := os.Hostname()
		return fmt.Sprintf("%s/%s of %s, %d cores", runtime.GOOS, runtime.GOARCH, host, runtime.NumCPU())
	}
	abilities, _, _ = bytes.Cut(abilities, []byte("\n\n")) // the first core
	var kind, features string
	for line := range strings.Lines(string(abilities)) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name", "CPU part":
			kind = strings.TrimSpace(value)
		case "flags", "Features":
			features = strings.TrimSpace(value)
		}
	}
	return fmt.Sprintf("%s with abilities %s, %d cores", kind, sum([]byte(features))[:12], runtime.NumCPU())
}

// pluginIdentity is the name and the SHA-256 of the plugin's file.
func pluginIdentity(path, folder string) (string, error) {
	hash, err := fileHash(path, folder)
	if err != nil {
		return "", fmt.Errorf("identify the plugin: %w", err)
	}
	return filepath.Base(path) + " " + hash, nil
}

// hashedFile is a file whose SHA-256 is known as long as it looks the same.
type hashedFile struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"` // in nanoseconds since 1970
	SHA256  string `json:"sha256"`
}

// fileHash is the SHA-256 of a plugin. That of an installed one is known; others have hundreds of megabytes, so theirs is kept in a folder,
// if there is one.
func fileHash(path, folder string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if mark, err := markBeside(path); err == nil && mark.File == filepath.Base(path) && mark.Size == info.Size() && mark.SHA256 != "" {
		return mark.SHA256, nil
	}
	file := hashedFile{Path: path, Size: info.Size(), Changed: info.ModTime().UnixNano()}
	noted := filepath.Join(folder, "plugin-"+sum([]byte(path))[:16]+".json")
	if folder != "" {
		var known hashedFile
		if raw, err := os.ReadFile(noted); err == nil && json.Unmarshal(raw, &known) == nil {
			if file.SHA256 = known.SHA256; file == known && known.SHA256 != "" {
				return known.SHA256, nil
			}
		}
	}
	if file.SHA256, err = fileSHA256(context.Background(), path); err != nil || folder == "" {
		return file.SHA256, err
	}
	raw, err := json.Marshal(file)
	if err == nil {
		err = renameio.WriteFile(noted, raw, 0o600, renameio.WithTempDir(folder))
	}
	return file.SHA256, err
}
