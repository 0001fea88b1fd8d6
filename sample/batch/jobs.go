package batch

import (
	"errors"
	"fmt"
)

// list lists the images: those of the first prompt, then those of the second, and so on.
func (c *Options) list() ([]*job, error) {
	var errs []error
	if n := c.NumImages; n < 1 || n > mostImages {
		errs = append(errs, fmt.Errorf("--num_images %d: want 1 to %d", n, mostImages))
	}
	if n := c.PreviewSteps; n < 0 { // 0 was not given
		errs = append(errs, fmt.Errorf("--preview_steps %d: want at least 1", n))
	}
	switch {
	case len(c.Prompt) == 0 && c.PromptFile == "":
		errs = append(errs, errors.New("give --prompt or --prompt_file"))
	case len(c.Prompt) > 0 && c.PromptFile != "":
		errs = append(errs, fmt.Errorf("--prompt and --prompt_file %s are both given: give one of them", c.PromptFile))
	}
	lines, err := c.lines()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	if n := len(lines) * c.NumImages; n > mostImages {
		return nil, fmt.Errorf("%d images (--num_images %d for each of %d): want at most %d",
			n, c.NumImages, len(lines), mostImages)
	}
	if err := c.applyLoRATags(lines); err != nil {
		return nil, err
	}
	var work []*job
	for _, d := range lines {
		for i := range c.NumImages {
			j := &job{Settings: d, index: len(work)}
			errs = append(errs, j.advanceSeed(i))
			work = append(work, j)
		}
	}
	for _, j := range work {
		err := j.check()
		if err == nil {
			err = j.drawPreprocess()
		}
		errs = append(errs, err)
	}
	return work, joinDistinct(errs)
}

// lines are the settings of single prompts: of the flags or of the prompt file, or those of --xy.
func (c *Options) lines() ([]Settings, error) {
	if c.XY != nil {
		sheet, err := c.sheet()
		if err != nil {
			return nil, err
		}
		return sheet.cells, nil
	}
	if c.PromptFile != "" {
		return promptFile(c.PromptFile, c.Settings, c.NumImages)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	var lines []Settings
	for i := range c.Prompt {
		d := c.of(i)
		if err := d.advanceSeed(i * c.NumImages); err != nil {
			return nil, err
		}
		lines = append(lines, d)
	}
	return lines, nil
}
