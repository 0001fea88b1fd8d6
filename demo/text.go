package demo

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Text describes what the demo measured and what to try next. dir is its folder.
func (r *Report) Text(dir string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("")
	line("%d pictures of circles that training never saw, sampled from a caption and an outline:", r.Options.Cases)
	line("  overlap with the asked disc, with the ControlNet      %.2f   (intersection over union; 1 is exact)",
		r.IoUWith)
	line("  overlap with the asked disc, without                  %.2f", r.IoUWithout)
	line("  both colours nearest to the named ones                %.0f %%", 100*r.ColourMatch)
	line("  time: dataset %.0f s, training %.0f s, sampling %.0f s, all %.0f s",
		r.Seconds["dataset"], r.Seconds["encode"]+r.Seconds["train"], r.Seconds["sample"], r.Seconds["total"])
	line("")
	line("Look at %s: outline, with the ControlNet, without.", filepath.Join(dir, gridName))
	line("The ControlNet is in %s, the loss in %s, these figures in %s.",
		filepath.Join(dir, controlName), filepath.Join(dir, lossName), filepath.Join(dir, reportName))
	line("")
	line("Next, a picture of your own (any outline, 64 pixels square, white on black):")
	line("  limner sample --model %s --controlnet %s \\", filepath.Join(dir, baseName), filepath.Join(dir, controlName))
	line("    --prompt \"red circle with blue background\" --control_image outline.png --height 64 --width 64 " +
		"--guidance_scale 2 --output_dir pictures")
	line("or a longer training: limner demo --max_train_steps %d --output_dir %s-long", 2*r.Options.Steps, dir)
	return b.String()
}
