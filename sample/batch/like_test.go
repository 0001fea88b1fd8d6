package batch

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestReadRecordOfADevice(t *testing.T) {
	if _, err := ReadRecord("/dev/zero"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v", err)
	}
}

// A record names files without their folders.
func TestNamed(t *testing.T) {
	for want, value := range map[string]string{
		"c": "/home/me/c", "d": `C:\home\me\d`, "org/l": "org/l", "t=u": "t=/home/me/u",
		"plugin.so": "/home/me/plugin.so", "x": "/home/me/x/",
	} {
		flag := controlFlag
		if strings.Contains(value, "=") {
			flag = inversionFlag
		}
		if got := named(flag, value, "abc"); got != (UsedFile{flag, want, "abc"}) {
			t.Errorf("%s: got %+v, want %s", value, got, want)
		}
	}
}

func TestCompareFiles(t *testing.T) {
	model := UsedFile{modelFlag, "m", "1"}
	control := UsedFile{controlFlag, "x.png", "2"}
	for name, c := range map[string]struct {
		was, now []UsedFile
		want     string
	}{
		"equal under other names": {
			[]UsedFile{model, control}, []UsedFile{{modelFlag, "n", "1"}, {controlFlag, "y.png", "2"}}, "",
		},
		"not known":     {[]UsedFile{{modelFlag, "m", ""}}, []UsedFile{model}, ""},
		"another model": {[]UsedFile{model}, []UsedFile{{modelFlag, "m", "3"}}, `"m" is not the "m" that it was made with: its SHA-256 is 3 and was "1"`},
		"more files": {
			[]UsedFile{model}, []UsedFile{model, control},
			"it was made with no --control_image, this command gives --control_image",
		},
		"fewer files": {
			[]UsedFile{control, control}, []UsedFile{control},
			"it was made with 2 times --control_image, this command gives --control_image",
		},
		"another variant": {[]UsedFile{{variantFlag, "fp16", ""}}, []UsedFile{{variantFlag, "ema", ""}}, `--variant: "ema", it was made with "fp16"`},
	} {
		err := compareFiles(c.was, c.now)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// A record's size is checked before it is decoded.
func TestParseRecordLimits(t *testing.T) {
	list := func(open, entry, end string, n int) string {
		return open + strings.Repeat(entry+",", n-1) + entry + end
	}
	for name, c := range map[string]struct{ record, want string }{
		"as many prompts": {list(`{"sample":{"prompt":[`, `""`, `]}}`, 1000), ""},
		"more prompts": {
			list(`{"sample":{"prompt":[`, `""`, `]}}`, 1001), "more than the limit of 1000 entries at byte 3023",
		},
		"more files":    {list(`{"files":[`, `{}`, `]}`, 1001), "more than the limit of 1000 entries"},
		"more settings": {list(`{"sample":{`, `"a":1`, `}}`, 1001), "more than the limit of 1000 entries"},
		"more lists": {
			list(`{"files":[],"sample":{"seed":[`, `[]`, `]}}`, 1001), "more than the limit of 1000 entries",
		},
		"more bytes": {
			`{"version":"` + strings.Repeat("x", 1<<20) + `"}`, "it has 1048590 bytes, more than the limit of 1048576",
		},
		"an end too many":    {`{}]`, "invalid character ']'"},
		"no end":             {`{"files":[`, "unexpected end of JSON input"},
		"two values":         {`{}{}`, "invalid character '{'"},
		"nested without end": {strings.Repeat("[", 100_000), "max depth"},
	} {
		_, err := parseRecord([]byte(c.record))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"version":"v","files":[{"flag":"lora","name":"l","sha256":"0"}],"sample":{"prompt":["a"],"num_devices":2}}`))
	f.Add([]byte(`{"inputs":{"a":"b"},"sample":{"image":["a"],"backend":"c","seed":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRecord(raw)
		if err != nil {
			return
		}
		for name := range r.Settings {
			if !slices.Contains(RecordedSettings, name) {
				t.Errorf("the record sets %s", name)
			}
		}
	})
}

// Every setting has a place: a record may set it, or it names files.
func TestSettingsOfRecords(t *testing.T) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Settings]()) {
		if field.Anonymous {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !slices.Contains(RecordedSettings, name) && !slices.Contains(fileFlags, name) && name != "revision" {
			t.Errorf("%s (%s): may a record set it (RecordedSettings), or does it name files (fileFlags)?",
				field.Name, name)
		}
	}
}
