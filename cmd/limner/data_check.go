package main

import (
	"context"
	"fmt"
	"os"

	"limner/data/build"
	"limner/data/check"
	"limner/internal/refusal"
	"limner/models/clip"
	"limner/models/diffusers"
)

type dataCheckCmd struct {
	Dir   []string      `arg:"" name:"dir" help:"Dataset: a folder or file, as --train_data_dir takes it."`
	Check check.Options `embed:""`
	Model string        `name:"pretrained-model-name-or-path" placeholder:"MODEL" help:"Model whose tokenizer counts the captions' tokens; without it, CLIP's."`
	JSON  bool          `help:"Print the report as JSON."`
	Fix   string        `placeholder:"OUT" help:"Write a copy without the rows that are found, as limner data build writes it, into a new or empty folder."`
	HTML  string        `name:"html" placeholder:"FILE" help:"Write the report as a page, with pictures of what was found."`
}

// checkedError says that a check has found something.
type checkedError struct {
	error
	worst check.Severity
}

// code is the exit code.
func (e checkedError) code() int {
	if e.worst == check.Error {
		return exitErrors
	}
	return exitWarnings
}

// Help shows one working example.
func (dataCheckCmd) Help() string {
	return `Example:

  limner data check circles --html circles.html

All rows are read as training reads them; nothing is written but the page and, with --fix, a cleaned copy: pictures as they are,
without copies, blank, tiny and unreadable ones, rows without captions and what else is found in single rows. What it cannot
mend is said. The exit code is 0 if nothing has to be changed, 3 after warnings, 4 after errors, with --fix of those that are left,
and 78 if training could not read the dataset at all.`
}

func (c dataCheckCmd) Run(ctx context.Context) error {
	if err := c.Check.Validate(); err != nil {
		return usageError{err}
	}
	if err := c.tokenizers(ctx); err != nil {
		return err
	}
	if c.Fix != "" {
		if err := build.CheckOut(c.Fix); err != nil {
			return err
		}
	}
	bar := newProgress(os.Stderr, "checking")
	report, err := check.Run(ctx, c.Dir, c.Check, func(done, total int) { bar.Step(done, total, "") })
	if closeErr := bar.Close(); err == nil && closeErr != nil {
		return closeErr
	}
	if err != nil {
		return refusal.Error{Err: err}
	}
	if c.HTML != "" {
		if err := report.WritePage(c.HTML); err != nil {
			return err
		}
	}
	if c.JSON {
		err = report.WriteJSON(os.Stdout)
	} else {
		_, err = fmt.Print(report.Summary())
	}
	if err != nil {
		return err
	}
	name, left := report.Dataset, report.Findings
	if c.Fix != "" {
		if name, left, err = c.fix(ctx, report); err != nil {
			return err
		}
	}
	if worst := check.Worst(left); worst == check.Warning || worst == check.Error {
		return checkedError{fmt.Errorf("%s: %s", name, check.Verdict(left)), worst}
	}
	return nil
}

// fix writes a cleaned copy and says what is left as it was.
func (c dataCheckCmd) fix(ctx context.Context, report *check.Report) (name string, left []check.Finding, err error) {
	if err := runBuild(ctx, report.Fix(c.Fix)); err != nil {
		return "", nil, err
	}
	left = report.Unmended()
	for _, f := range left {
		fmt.Fprintf(said, "%s still has: %s\n", c.Fix, f.Title)
	}
	return c.Fix, left, nil
}

// tokenizers are those of the model, or CLIP's.
func (c *dataCheckCmd) tokenizers(ctx context.Context) error {
	if c.Model == "" {
		standard, err := clip.Standard(clip.PadEnd)
		c.Check.Tokenizers, c.Check.Tokenizer = []check.Tokenizer{standard}, "CLIP's tokenizer"
		return err
	}
	dir, err := locate(ctx, c.Model, "")
	if err != nil {
		return err
	}
	model, err := diffusers.Open(dir)
	if err != nil {
		return refusal.Error{Err: err}
	}
	c.Check.Tokenizer = "the model's tokenizer"
	c.Check.Tokenizers = append(c.Check.Tokenizers, model.Tokenizer)
	if model.Tokenizer2 != nil {
		c.Check.Tokenizers = append(c.Check.Tokenizers, model.Tokenizer2)
	}
	return nil
}
