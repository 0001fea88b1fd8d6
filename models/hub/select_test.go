package hub

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const xlIndex = `{"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": true,
	"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
	"text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
	"tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"],
	"scheduler": ["diffusers", "EulerDiscreteScheduler"], "controlnet": [null, null], "image_encoder": [null, null]}`

const unetIndex = `{"_class_name": "P", "unet": ["diffusers", "UNet2DConditionModel"]}`

func TestChoose(t *testing.T) {
	const config, dpm = "unet/config.json ", "unet/diffusion_pytorch_model"
	for name, c := range map[string]struct {
		index, files, at, variant string
		want, missing, pickled    string // in order of the names
		path, err                 string
	}{
		"XL": {
			index: xlIndex,
			files: "model_index.json .gitattributes README.md LICENSE.md sd_xl_base_1.0.safetensors " +
				"sd_xl_base_1.0_0.9vae.safetensors scheduler/scheduler_config.json image.png " +
				"text_encoder/config.json text_encoder/model.safetensors text_encoder/model.fp16.safetensors " +
				"text_encoder/flax_model.msgpack text_encoder/model.onnx text_encoder/openvino_model.bin " +
				"text_encoder/openvino_model.xml text_encoder/pytorch_model.bin text_encoder_2/config.json " +
				"text_encoder_2/model.safetensors text_encoder_2/model.fp16.safetensors " +
				"text_encoder_2/model.onnx_data tokenizer/merges.txt tokenizer/vocab.json " +
				"tokenizer/special_tokens_map.json tokenizer/tokenizer_config.json tokenizer_2/merges.txt " +
				"tokenizer_2/vocab.json tokenizer_2/special_tokens_map.json tokenizer_2/tokenizer_config.json " +
				config + dpm + ".safetensors " + dpm +
				".fp16.safetensors unet/model.onnx unet/diffusion_flax_model.msgpack " +
				"vae/config.json vae/diffusion_pytorch_model.safetensors " +
				"vae/diffusion_pytorch_model.fp16.safetensors vae_1_0/config.json " +
				"vae_1_0/diffusion_pytorch_model.safetensors vae_decoder/config.json vae_decoder/model.onnx " +
				"controlnet/config.json controlnet/diffusion_pytorch_model.safetensors",
			want: "model_index.json scheduler/scheduler_config.json text_encoder/config.json " +
				"text_encoder/model.safetensors text_encoder_2/config.json text_encoder_2/model.safetensors " +
				"tokenizer/merges.txt tokenizer/special_tokens_map.json tokenizer/tokenizer_config.json " +
				"tokenizer/vocab.json tokenizer_2/merges.txt tokenizer_2/special_tokens_map.json " +
				"tokenizer_2/tokenizer_config.json tokenizer_2/vocab.json " +
				config + dpm + ".safetensors vae/config.json vae/diffusion_pytorch_model.safetensors",
		},
		"full weights first": {
			files: config + dpm + ".fp16.safetensors " + dpm + ".safetensors " + dpm + ".bf16.safetensors",
			want:  config + dpm + ".safetensors",
		},
		"variant first": {
			variant: "fp16", files: config + dpm + ".fp16.safetensors " + dpm + ".safetensors",
			want: config + dpm + ".fp16.safetensors",
		},
		"variant only": {
			files: config + dpm + ".fp16.safetensors " + dpm + ".bin", want: config + dpm + ".fp16.safetensors",
		},
		"bf16 only": {
			files: config + dpm + ".bf16.safetensors", want: config + dpm + ".bf16.safetensors",
		},
		"another variant": {
			variant: "non_ema", files: config + dpm + ".non_ema.safetensors " + dpm + ".safetensors",
			want: config + dpm + ".non_ema.safetensors",
		},
		"unknown variant ignored": {
			files: config + dpm + ".non_ema.safetensors", missing: dpm + ".safetensors", want: config,
		},
		"no such variant": {variant: "fp16", files: config + dpm + ".safetensors", err: "no fp16 weights"},
		"odd variant":     {variant: "../x", files: config + dpm + ".safetensors", err: `variant "../x"`},
		"single before shards": {
			files: config + dpm + ".safetensors " + dpm + ".safetensors.index.json " + dpm +
				"-00001-of-00002.safetensors " +
				dpm + "-00002-of-00002.safetensors", want: config + dpm + ".safetensors",
		},
		"shards": {
			files: config + dpm + ".safetensors.index.json " + dpm + "-00001-of-00002.safetensors " + dpm +
				"-00002-of-00002.safetensors",
			want: config + dpm + "-00001-of-00002.safetensors " + dpm + "-00002-of-00002.safetensors " + dpm +
				".safetensors.index.json",
		},
		"a shard is missing": {
			files: config + dpm + ".safetensors.index.json " + dpm + "-00001-of-00003.safetensors " + dpm +
				"-00003-of-00003.safetensors",
			want: config + dpm + "-00001-of-00003.safetensors " + dpm + "-00003-of-00003.safetensors " + dpm +
				".safetensors.index.json",
			missing: dpm + "-00002-of-00003.safetensors",
		},
		"the index is missing": {
			files: config + dpm + "-00001-of-00001.safetensors", want: config + dpm + "-00001-of-00001.safetensors",
			missing: dpm + ".safetensors.index.json",
		},
		"an index alone": {
			files: config + dpm + ".safetensors.index.json", want: config + dpm + ".safetensors.index.json",
			missing: dpm + "-00001-of-NNNNN.safetensors",
		},
		"shards in part, a whole variant": {
			files: config + dpm + ".safetensors.index.json " + dpm + "-00001-of-00003.safetensors " + dpm +
				".fp16.safetensors",
			want: config + dpm + ".fp16.safetensors",
		},
		"shards of a variant": {
			variant: "fp16", files: config + dpm + ".safetensors.index.fp16.json " + dpm +
				".fp16-00001-of-00001.safetensors " + dpm + ".safetensors",
			want: config + dpm + ".fp16-00001-of-00001.safetensors " + dpm + ".safetensors.index.fp16.json",
		},
		"shards of a variant, older": {
			variant: "fp16", files: config + dpm + ".fp16.safetensors.index.json " + dpm +
				"-00001-of-00001.fp16.safetensors",
			want: config + dpm + "-00001-of-00001.fp16.safetensors " + dpm + ".fp16.safetensors.index.json",
		},
		"Flax": {
			files: config + "unet/diffusion_flax_model.msgpack " + dpm + ".bin",
			want:  config + "unet/diffusion_flax_model.msgpack",
		},
		"pickled": {
			files: config + dpm + ".bin " + dpm + ".fp16.bin", want: config, missing: dpm + ".safetensors",
			pickled: dpm + ".bin " + dpm + ".fp16.bin",
		},
		"no config": {files: dpm + ".safetensors", want: dpm + ".safetensors", missing: "unet/config.json"},
		"nothing":   {files: "README.md", missing: "unet/config.json " + dpm + ".safetensors"},
		"no unet": {
			index: `{"_class_name": "FluxPipeline", "transformer": ["diffusers", "X"]}`, files: "x", err: `no unet (_class_name "FluxPipeline")`,
		},
		"null unet":    {index: `{"unet": [null, null]}`, files: "x", err: "no unet (_class_name unknown)"},
		"broken index": {index: `{"unet": `, files: "x", err: "model_index.json"},
		"ControlNet": {
			index: "none", files: "config.json diffusion_pytorch_model.safetensors diffusion_pytorch_model.bin " +
				"images/x.png control.ckpt", want: "config.json diffusion_pytorch_model.safetensors",
		},
		"ControlNet, fp16": {
			index: "none", variant: "fp16",
			files: "config.json diffusion_pytorch_model.safetensors diffusion_pytorch_model.fp16.safetensors",
			want:  "config.json diffusion_pytorch_model.fp16.safetensors",
		},
		"ControlNet, .bin": {
			index: "none", files: "config.json diffusion_pytorch_model.bin", pickled: "diffusion_pytorch_model.bin",
			missing: "model_index.json",
		},
		"LoRA": {
			index: "none", files: "README.md image.png my_lora.safetensors", want: "my_lora.safetensors",
			path: "my_lora.safetensors",
		},
		"LoRA, diffusers'": {
			index: "none", files: "pytorch_lora_weights.safetensors other.safetensors", want: loraFile, path: loraFile,
		},
		"LoRA, PEFT's": {
			index: "none", files: "README.md adapter_model.safetensors adapter_config.json",
			want: "adapter_config.json adapter_model.safetensors", path: peftFile,
		},
		"LoRA in a folder": {
			at: "x", files: "model_index.json x/pytorch_lora_weights.safetensors x/y.safetensors",
			want: "x/" + loraFile, path: "x/" + loraFile,
		},
		"PEFT's in one": {
			at: "x", files: "x/adapter_model.safetensors x/adapter_config.json",
			want: "x/adapter_config.json x/adapter_model.safetensors", path: "x/" + peftFile,
		},
		"several": {
			index: "none", files: "a.safetensors b.safetensors",
			err: "2 weights files: name one of them behind the repo's name, as in org/name/a.safetensors: " +
				"a.safetensors, b.safetensors",
		},
		"no weights": {
			index: "none", files: "README.md data/x.parquet", err: "no model_index.json and no .safetensors",
		},
		"a file": {
			at: "b.safetensors", files: "a.safetensors b.safetensors", want: "b.safetensors", path: "b.safetensors",
		},
		"a file in folders": {
			at: "x/y/b.safetensors", files: "x/y/b.safetensors", want: "x/y/b.safetensors", path: "x/y/b.safetensors",
		},
		"a missing file": {
			at: "c.safetensors", files: "a.safetensors", missing: "c.safetensors", path: "c.safetensors",
		},
		"a pickled file": {at: "c.bin", files: "c.bin", err: "c.bin is pickled"},
		"a component": {
			at: "text_encoder", files: "model_index.json text_encoder/config.json text_encoder/model.safetensors " +
				"text_encoder/diffusion_pytorch_model.safetensors",
			want: "text_encoder/config.json text_encoder/model.safetensors", path: "text_encoder",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var files []file
			for _, name := range strings.Fields(c.files) {
				files = append(files, file{path: name, size: 1})
			}
			var index []byte
			switch {
			case c.index == "" && c.at == "": // the tests of one component
				index = []byte(unetIndex)
				files = append(files, file{path: "model_index.json"})
				c.want += " model_index.json"
			case c.index != "none" && c.at == "":
				index = []byte(c.index)
			}
			got, err := choose(files, c.at, index, Selection{Variant: c.variant})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range got.files {
				names = append(names, f.path)
			}
			for _, x := range []struct {
				what, want string
				got        []string
			}{{"files", c.want, names}, {"missing", c.missing, got.missing}, {"pickled", c.pickled, got.pickled}} {
				if diff := cmp.Diff(sorted(strings.Fields(x.want)), sorted(x.got)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", x.what, diff)
				}
			}
			if got.path != c.path {
				t.Errorf("path %q, want %q", got.path, c.path)
			}
			if (got.explain(Ref{Repo: "org/name", Revision: "main"}) != nil) != (c.missing != "") {
				t.Errorf("explained as %v", got.explain(Ref{}))
			}
		})
	}
}

func sorted(names []string) []string { return slices.Sorted(slices.Values(names)) }

func TestParseInfo(t *testing.T) {
	sha := strings.Repeat("a", 64)
	for name, c := range map[string]struct{ siblings, want string }{
		"fine":           {`{"rfilename": "a/b.json", "size": 3, "blobId": "` + testCommit + `"}`, ""},
		"LFS":            {`{"rfilename": "a", "size": 3, "blobId": "` + testCommit + `", "lfs": {"sha256": "` + sha + `", "size": 3, "pointerSize": 1}}`, ""},
		"name alone":     {`{"rfilename": "a"}`, ""},
		"dots":           {`{"rfilename": "a/../../b"}`, "outside the repo"},
		"absolute":       {`{"rfilename": "/etc/passwd"}`, "outside the repo"},
		"backslashes":    {`{"rfilename": "a\\..\\..\\b"}`, "outside the repo"},
		"hash is a path": {`{"rfilename": "a", "size": 1, "blobId": "../../x"}`, "want hexadecimal digits"},
		"LFS hash short": {
			`{"rfilename": "a", "size": 1, "lfs": {"sha256": "ab", "size": 1}}`, "want hexadecimal digits",
		},
		"negative":      {`{"rfilename": "a", "size": -3}`, "-3 bytes"},
		"too large":     {`{"rfilename": "a", "size": 9000000000000000000}`, "bytes"},
		"not a number":  {`{"rfilename": "a", "size": 1e99}`, "read the repo's files"},
		"not an object": {`3`, "read the repo's files"},
	} {
		t.Run(name, func(t *testing.T) {
			info, err := parseInfo([]byte(`{"sha": "` + testCommit + `", "siblings": [` + c.siblings + `]}`))
			if c.want == "" && (err != nil || len(info.files) != 1) {
				t.Errorf("%+v, %v", info, err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	for _, commit := range []string{"", "main", "../..", testCommit + "/..", strings.ToUpper(testCommit)} {
		if _, err := parseInfo(fmt.Appendf(nil, `{"sha": %q}`, commit)); err == nil {
			t.Errorf("commit %q passed", commit)
		}
	}
	info, err := parseInfo([]byte(`{"sha": "` + testCommit + `", "siblings": [{"rfilename": "a:b"}, {"rfilename": "a\u0000b"}, {"rfilename": "c\\d"}, {"rfilename": ""}]}`))
	if err != nil || len(info.files) != 0 {
		t.Errorf("odd names: %+v, %v", info, err)
	}
}

// FuzzSelection asks that a selection from a server's answer holds only files of the answer, each
// once, below the repo's folder, and none that can run code.
func FuzzSelection(f *testing.F) {
	repo := func(names ...string) []byte {
		siblings := []map[string]any{}
		for _, n := range names {
			siblings = append(siblings, map[string]any{"rfilename": n, "size": 1, "blobId": testCommit})
		}
		data, _ := json.Marshal(map[string]any{"sha": testCommit, "siblings": siblings})
		return data
	}
	f.Add(repo(pipelineWanted...), []byte(xlIndex), "", "")
	f.Add(repo(append(pipelineWanted, "unet/x.bin")...), pipelineFiles()["model_index.json"], "", "fp16")
	f.Add(repo("config.json", "diffusion_pytorch_model-00001-of-00002.safetensors"), []byte(nil), "", "")
	f.Add(repo("a.safetensors", "b.ckpt"), []byte(nil), "a.safetensors", "")
	f.Add(repo("../x"), []byte(`{"unet": [1, 2]}`), "..", "..")
	f.Fuzz(func(t *testing.T, answer, index []byte, at, variant string) {
		info, err := parseInfo(answer)
		if err != nil {
			return
		}
		if at != "" && !validPath(at) {
			return
		}
		for _, ref := range []Ref{{Path: at}, {Path: at, Dataset: true}} {
			c, err := Selection{Variant: variant, Config: variant}.choose(info.files, ref, index)
			if err != nil {
				continue
			}
			seen := map[string]bool{}
			for _, got := range c.files {
				if seen[got.path] {
					t.Errorf("%q twice", got.path)
				}
				seen[got.path] = true
				if !slices.Contains(info.files, got) || !validPath(got.path) ||
					slices.Contains(pickled, path.Ext(got.path)) {
					t.Errorf("took %+v", got)
				}
			}
		}
	})
}
