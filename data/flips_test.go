package data

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

func TestSide(t *testing.T) {
	for caption, want := range map[string]string{
		"a hand on the left": "left", "Right of it": "right", "1girl, looking_left, solo": "left",
		"left-handed": "left", "a bright leftover": "", "copyright": "", "": "", "links": "",
	} {
		if got := Side(caption); got != want {
			t.Errorf("%q: got %q, want %q", caption, got, want)
		}
	}
}

// Images whose captions say left or right are turned around only if that is forced, in every layout; a caption that no
// one looked at before is named when it is met.
func TestFlipsOfCaptions(t *testing.T) {
	const wrong = "a shoe, left"
	folder := slopes(t, 8, 16, 16)
	var lines strings.Builder
	rows := badRows(t, 12, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
	var members []string
	for i := range 8 {
		caption := "a shoe"
		if i == 5 {
			caption = wrong
		}
		rows[i].Text = caption
		fmt.Fprintf(&lines, `{"file_name": "%02d.png", "conditioning_image": "%02[1]d.png", "text": %q}`+"\n",
			i, caption)
		members = append(members, fmt.Sprintf("%02d.png", i), string(rows[i].Image.Bytes),
			fmt.Sprintf("%02d.txt", i), caption)
	}
	writeFile(t, filepath.Join(folder, metadataName), lines.String())
	archive := filepath.Join(t.TempDir(), "rows.tar")
	writeFile(t, archive, tarOf(t, members...))
	for path, name := range map[string]string{
		folder: filepath.Base(folder), archive: "rows.tar",
		writeRows(t, rows, parquet.MaxRowsPerRowGroup(3)): "rows.parquet",
	} {
		o := testOptions()
		o.NeedConditioning, o.Resolution, o.BatchSize, o.RandomFlip = false, 16, 4, true
		_, err := Open([]string{path}, o)
		want := fmt.Sprintf("random_flip: %s row 5: the caption %q says left, which", name, wrong)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--force_flip") {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
		o.ForceFlip = true
		flipped := 0
		for _, b := range take(t, openTest(t, path, o), 0, 12) {
			for _, view := range b.Views {
				if view.Flipped {
					flipped++
				}
			}
		}
		if flipped == 0 {
			t.Errorf("%s: nothing was turned around", name)
		}
	}
	o := testOptions()
	o.ForceFlip = true
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "force_flip: it goes with") {
		t.Errorf("got %v", err)
	}
}

// What the sample of captions did not show is said once.
func TestFlipsOfCaptionsThatWereNotSampled(t *testing.T) {
	type row struct {
		Image []byte `parquet:"image"`
		Text  string `parquet:"text"`
	}
	picture := badRows(t, 1, 0)[0].Image.Bytes
	rows := make([]row, flipSample+64)
	for i := range rows {
		if rows[i] = (row{picture, "a shoe"}); i >= flipSample {
			rows[i].Text = "a left shoe"
		}
	}
	var log bytes.Buffer
	o := testOptions()
	o.NeedConditioning, o.Resolution, o.BatchSize, o.RandomFlip, o.Log = false, 8, 32, true, &log
	d := openTest(t, writeRows(t, rows), o)
	take(t, d, 0, d.StepsPerEpoch())
	if n := strings.Count(log.String(), `the caption "a left shoe" says left, and --random_flip turns`); n != 1 {
		t.Errorf("said %d times, want once: %s", n, log.String())
	}
}
