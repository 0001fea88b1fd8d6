package checkpoint

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"limner/internal/golden"
)

// flaxModels are the goldens that testdata/flax holds, by its files.
var flaxModels = map[string]struct {
	golden, component string
	family            Family
}{
	"unet":           {"sd21-tiny/unet", UNet, SD2},
	"controlnet":     {"sd15-tiny/controlnet", ControlNet, SD1},
	"vae":            {"sdxl-tiny/vae", VAE, UnknownFamily},
	"text_encoder_2": {"sdxl-tiny/text_encoder_2", TextEncoder, SDXL},
}

// Goldens: diffusers 0.30.3, transformers 4.46.3, flax 0.12.8.
func TestFlax(t *testing.T) {
	for name, c := range flaxModels {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", "flax", name+".msgpack")
			file := openFile(t, path)
			m, ok := file.Component(c.component)
			if !ok || file.Kind != KindComponent || file.Dialect != DialectFlax || file.Family != c.family {
				t.Fatalf("got %s, %s, %s with %v", file.Kind, file.Dialect, file.Family, file.Components())
			}
			want := openModel(t, golden.Path(t, c.golden))
			sameTensors(t, m, want)
			tree := treeOf(t, want)
			values, wanted := load(t, m, tree), load(t, want, tree)
			for _, s := range tree {
				if !slices.Equal(values[s.Key], wanted[s.Key]) {
					t.Errorf("%s differs when it is loaded", s.Key)
				}
			}
			out := filepath.Join(t.TempDir(), "x.safetensors")
			if err := SaveModelFile(out, m, ""); err != nil {
				t.Fatal(err)
			}
			sameTensors(t, openModelFile(t, out), want)
		})
	}
}

// array is a Flax array of bytes in MessagePack.
func array(data string) string {
	body := "\x93\x91" + string(rune(len(data))) + "\xa5uint8\xc4" + string(rune(len(data))) + data
	return "\xc7" + string(rune(len(body))) + "\x01" + body
}

func TestMsgpack(t *testing.T) {
	for name, c := range map[string]struct {
		data string
		keys []string
		fail string
	}{
		"nested":         {"\x82\xa1a\x81\xa1b" + array("xy") + "\xa1c" + array("z"), []string{"a/b", "c"}, ""},
		"numbers beside": {"\x83\xa1a\x05\xa1b\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xa1c\xc0", nil, ""},
		"in pieces": {
			"\x81\xa1a\x83\xb9" + chunked + "\xc3\xa5shape\x82\xa10\x01\xa11\x03\xa6chunks\x82\xa10" + array("xy") +
				"\xa11" + array("z"), []string{"a"}, "",
		},
		"pieces in disorder": {
			"\x81\xa1a\x83\xb9" + chunked + "\xc3\xa5shape\x81\xa11\x01\xa6chunks\x81\xa10" + array("x"), nil, `got entry "1", want 0`,
		},
		"a piece short": {
			"\x81\xa1a\x83\xb9" + chunked + "\xc3\xa5shape\x81\xa10\x02\xa6chunks\x81\xa10" + array("x"),
			nil, "got 1 bytes, want 2",
		},
		"empty":            {"", nil, "truncated"},
		"no map":           {"\x91\x01", nil, "holds no map"},
		"key is a number":  {"\x81\x01\x01", nil, "key is no text"},
		"key is not UTF-8": {"\x81\xa1\xff\x01", nil, "not UTF-8"},
		"twice":            {"\x82\xa1a" + array("x") + "\xa1a" + array("y"), nil, `"a" appears twice`},
		"list":             {"\x81\xa1a\x91\x01", nil, "holds a list"},
		"trailing":         {"\x81\xa1a" + array("x") + "\x00", nil, "1 bytes after the end"},
		"claimed map":      {"\xdf\xff\xff\xff\xff\xa1a" + array("x"), nil, "truncated"},
		"claimed string":   {"\x81\xdb\xff\xff\xff\xffa", nil, "truncated"},
		"claimed array":    {"\x81\xa1a\xc9\xff\xff\xff\xff\x01", nil, "truncated"},
		"unused byte":      {"\x81\xa1a\xc1", nil, "begins no value"},
		"too few bytes":    {"\x81\xa1a\xc7\x0c\x01\x93\x91\x02\xa5uint8\xc4\x01x", nil, "got 1 bytes, want 2"},
		"unknown dtype":    {"\x81\xa1a\xc7\x0c\x01\x93\x91\x01\xa5uint9\xc4\x01x", nil, `dtype "uint9"`},
		"negative shape":   {"\x81\xa1a\xc7\x0c\x01\x93\x91\xff\xa5uint8\xc4\x01x", nil, "something else than numbers"},
		"long name":        {"\x81\xda\x02\x00" + strings.Repeat("a", 512) + array("x"), nil, "longer than 512"},
		"deep":             {strings.Repeat("\x81\xa1a", 100) + "\x01", nil, "more than 64 deep"},
	} {
		t.Run(name, func(t *testing.T) {
			tensors, err := parseMsgpack(strings.NewReader(c.data), int64(len(c.data)))
			if c.fail != "" {
				if err == nil || !strings.Contains(err.Error(), c.fail) {
					t.Errorf("got %v, want %q", err, c.fail)
				}
				return
			}
			var keys []string
			for key := range tensors {
				keys = append(keys, key)
			}
			slices.Sort(keys)
			if err != nil || !slices.Equal(keys, c.keys) {
				t.Errorf("got %q, %v, want %q", keys, err, c.keys)
			}
		})
	}
}
