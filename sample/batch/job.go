package batch

import "encoding/json"

// job is one image to sample.
type job struct {
	Settings
	index int
	files []UsedFile // that it is sampled from, but the model's

	done    bool // it is in the folder
	problem error
}

// key is equal for jobs that differ only in what a request has for each image.
func (j *job) key() string {
	d := j.Settings
	d.Prompt, d.Seed, d.ControlImage, d.Preprocess, d.BatchRow = nil, 0, nil, "", 0
	for _, one := range []*[]string{&d.Image, &d.Mask} {
		if *one != nil {
			*one = []string{""}
		}
	}
	if d.NegativePrompt != nil {
		d.NegativePrompt = new(string)
	}
	key, err := json.Marshal(d)
	if err != nil {
		panic(err) // all of its fields can be written: not NaN, since check has passed
	}
	return string(key)
}
