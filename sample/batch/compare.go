package batch

import (
	"fmt"
	"slices"

	"limner/internal/refusal"
)

// compare fails where the images to sample are not made of the files of the image that they are to be like, and says
// what is left out of its record.
func (l *List) compare(model []UsedFile) error {
	like := l.options.Like
	if like == "" {
		return nil
	}
	was, err := ReadRecord(like)
	if err != nil {
		return err
	}
	if len(was.Left) > 0 {
		fmt.Fprintf(l.host.Log, "%s: its record has flags that none may set, which are left out: %q\n", like, was.Left)
	}
	if slices.ContainsFunc(was.Files, func(u UsedFile) bool { return u.SHA256 == "" && u.Flag == modelFlag }) {
		fmt.Fprintf(l.host.Log, "%s is of a version that recorded no SHA-256 of models: they are not compared\n", like)
	}
	var errs []error
	for _, j := range l.jobs {
		if err := compareFiles(was.Files, slices.Concat(model, j.files)); err != nil {
			errs = append(errs,
				refusal.Errorf("like: %s: %w\ngive what it was made with, or leave --like out and give the "+
					"settings that limner show prints", like, err))
		}
	}
	return joinDistinct(errs)
}

// mostRecordedDevices is more than limner was ever run on.
const mostRecordedDevices = 1 << 16

// compareDevices says that the number of devices is another, with which the last bits may be.
func (l *List) compareDevices() {
	like, devices := l.options.Like, l.backend.Devices()
	if like == "" {
		return
	}
	if was, err := ReadRecord(like); err == nil && was.Devices != 0 && was.Devices != devices {
		if was.Devices < 1 || was.Devices > mostRecordedDevices {
			fmt.Fprintf(l.host.Log, "%s says that it was sampled on %d devices, which cannot be: "+
				"its record is damaged\n", like, was.Devices)
			return
		}
		fmt.Fprintf(l.host.Log, "%s was sampled on %d devices, this is on %d: "+
			"the last bits may differ, --num_devices %d repeats it\n", like, was.Devices, devices, was.Devices)
	}
}
