package watch

import (
	"os"
	"regexp"
	"slices"
	"strings"
)

// pathKeys are the fields of recipe.yaml and run.json that say where something lies.
var pathKeys = []string{
	"pretrained_model_name_or_path", "controlnet_model_name_or_path", "original_config", "train_data_dir",
	"class_data_dir", "network_weights", "cache_dir", "logging_dir", "output_dir", "validation_image",
	"validation_data_dir", "validation_target", "resume_from_checkpoint",
}

var (
	keyed   = regexp.MustCompile(`^(\s*"?)([a-z]\w*)("?:\s*)(.*)$`)
	entry   = regexp.MustCompile(`^(\s*(?:-\s+|"))(.*)$`)
	hubName = regexp.MustCompile(`^\w[\w.-]*/\w[\w.-]*(@\S+)?$`)
)

// withoutFolders leaves of the paths in recipe.yaml or run.json, as they are written a value a line, their last parts:
// the diary is a page to pass on. Names on the Hub stay.
func withoutFolders(text string) string {
	lines := strings.Split(text, "\n")
	isPath := false
	for i, line := range lines {
		if m := keyed.FindStringSubmatch(line); m != nil {
			isPath = slices.Contains(pathKeys, m[2])
			if isPath {
				lines[i] = m[1] + m[2] + m[3] + lastPart(m[4])
			}
		} else if m := entry.FindStringSubmatch(line); m != nil && isPath {
			lines[i] = m[1] + lastPart(m[2])
		}
	}
	return strings.Join(lines, "\n")
}

// lastPart is a value without the folders in it, with the quotes and the comma that it had.
func lastPart(value string) string {
	bare := strings.TrimRight(strings.TrimSuffix(value, ","), `"'`)
	end := value[len(bare):]
	path := strings.TrimLeft(bare, `"'`)
	begin := bare[:len(bare)-len(path)]
	if _, err := os.Stat(path); err != nil && hubName.MatchString(path) {
		return value
	}
	path = strings.TrimRight(path, `/\`)
	return begin + path[strings.LastIndexAny(path, `/\`)+1:] + end
}
