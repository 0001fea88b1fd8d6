package hub

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// datasetFiles are the endings of what datasets are made of. Scripts, pickles and what else a repo holds are never
// taken.
var datasetFiles = []string{
	".parquet", ".arrow", ".jsonl", ".json", ".csv", ".txt", ".caption", ".tar", ".zip",
	".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff",
}

// heldOutSplit finds the name of a split that is not trained on in a file's path, between the marks that names have.
var heldOutSplit = regexp.MustCompile(`(?i)(^|[/_.-])(test|testing|validation|valid|val|dev|eval)([/_.-]|$)`)

// trainSplit finds that of the one that is.
var trainSplit = regexp.MustCompile(`(?i)(^|[/_.-])(train|training)([/_.-]|$)`)

// shardName is a file that says which of how many it is.
var shardName = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})([^/]*)$`)

// chooseDataset selects among a dataset's files: those below the folder at, or that file; of these those of the
// configuration, if folders tell them. Where some are parquet files, those alone, and where their names tell splits,
// those of training.
func chooseDataset(files []file, at string, s Selection) (choice, error) {
	c := choice{path: at}
	var parquet, other []file
	for _, f := range files {
		inside := c.path == "" || f.path == c.path || strings.HasPrefix(f.path, c.path+"/")
		switch ext := strings.ToLower(path.Ext(f.path)); {
		case !inside, strings.HasPrefix(path.Base(f.path), "."):
		case ext == ".parquet":
			parquet = append(parquet, f)
		case slices.Contains(datasetFiles, ext):
			other = append(other, f)
		}
	}
	c.files = other
	if len(parquet) > 0 {
		c.files = ofConfig(parquet, s.Config)
		isTrain := func(f file) bool { return trainSplit.MatchString(f.path) }
		if slices.ContainsFunc(c.files, isTrain) && !s.AllSplits {
			c.files = slices.DeleteFunc(c.files, func(f file) bool {
				return !isTrain(f) && heldOutSplit.MatchString(f.path)
			})
		}
	}
	if len(c.files) == 0 {
		return choice{}, explainNoData(files, c.path)
	}
	if len(c.files) > 1 || c.files[0].path != c.path { // one file is taken as it is
		c.missing = missingShards(c.files)
	}
	return c, nil
}

// ofConfig are the files of a configuration, if folders of theirs are named so, else all.
func ofConfig(files []file, config string) []file {
	var own []file
	for _, f := range files {
		if config != "" && slices.Contains(strings.Split(path.Dir(f.path), "/"), config) {
			own = append(own, f)
		}
	}
	if len(own) > 0 {
		return own
	}
	return files
}

// explainNoData says what there is in place of a dataset.
func explainNoData(files []file, at string) error {
	var folders []string
	for _, f := range files {
		ext := strings.ToLower(path.Ext(f.path))
		if dir := path.Dir(f.path); slices.Contains(datasetFiles, ext) && dir != "." && !slices.Contains(folders, dir) {
			folders = append(folders, dir)
		}
	}
	if at != "" && len(folders) > 0 {
		slices.Sort(folders)
		return fmt.Errorf("has no data in a folder %s, but in %s", at, few(folders))
	}
	return errors.New("has no files of data that can be read (parquet, JSON lines, CSV, archives, images): " +
		"the Hub keeps many datasets as parquet, too, which org/name@refs/convert/parquet takes")
}

// missingShards names the files that lack of those that say how many they are.
func missingShards(files []file) []string {
	const most = 1 << 16
	there := map[string]bool{}
	for _, f := range files {
		there[f.path] = true
	}
	var missing []string
	asked := map[string]bool{}
	for _, f := range files {
		parts := shardName.FindStringSubmatch(f.path)
		if parts == nil {
			continue
		}
		count, err := strconv.Atoi(parts[3])
		set := parts[1] + "-of-" + parts[3] + parts[4]
		if err != nil || count > most || asked[set] {
			continue
		}
		asked[set] = true
		for i := range count {
			if name := fmt.Sprintf("%s-%05d-of-%s%s", parts[1], i, parts[3], parts[4]); !there[name] {
				missing = append(missing, name)
			}
		}
	}
	return missing
}
