package checkpoint

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"limner/models/nn"
	"limner/models/safetensors"
)

// FuzzMsgpack checks that no bytes crash the reader of Flax weights, and that it holds no more than the file.
func FuzzMsgpack(f *testing.F) {
	f.Add([]byte("\x82\xa1a\x81\xa6kernel" + array("x") + "\xa1c" + array("z")))
	f.Add([]byte("\x81\xa1a\x83\xb9" + chunked + "\xc3\xa5shape\x82\xa10\x01\xa11\x03\xa6chunks\x82\xa10" +
		array("xy") + "\xa11" + array("z")))
	f.Fuzz(func(t *testing.T, data []byte) {
		tensors, err := parseMsgpack(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		held := 0
		for key, tensor := range tensors {
			if err := tensor.CheckSize(); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			held += len(bytesIn(t, tensor))
		}
		if held > len(data) {
			t.Fatalf("%d bytes of tensors out of %d", held, len(data))
		}
		c, err := fromFlax(tensors)
		if err != nil {
			return
		}
		m := Model{tensors: c.tensors, spelled: c.spelled}
		m.Structure()
		for _, key := range m.Keys() {
			var scratch []byte
			if tensor, _ := m.Tensor(key); safetensors.IsFloat(tensor.DType) {
				_, _ = tensor.Elements("F16", safetensors.MemoryOrder, &scratch)
			}
		}
	})
}

// tensorsOf makes a tensor for each line of text: a key and, behind a space, dimensions.
func tensorsOf(text string) map[string]safetensors.Tensor {
	tensors := map[string]safetensors.Tensor{}
	for line := range strings.Lines(text) {
		key, dims, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		t := safetensors.Tensor{DType: "F32", Shape: []int{}}
		size := 1
		for field := range strings.FieldsSeq(dims) {
			d := len(field)
			if size*d > 1<<12 {
				break
			}
			t.Shape, size = append(t.Shape, d), size*d
		}
		tensors[key] = safetensors.RawTensor(t.DType, t.Shape, make([]byte, 4*size))
	}
	return tensors
}

// FuzzKeys checks that no set of keys crashes the translation of names, in either direction.
func FuzzKeys(f *testing.F) {
	f.Add("model.diffusion_model.input_blocks.1.0.in_layers.0.weight x\n" +
		"model.diffusion_model.output_blocks.2.1.conv.weight x x x x\n" +
		"first_stage_model.encoder.down.0.block.0.norm1.weight x\n" +
		"first_stage_model.encoder.mid.attn_1.q.weight x x x x\n" +
		"cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight xxx xx\n" +
		"cond_stage_model.model.text_projection xx xx")
	f.Add("control_model.input_hint_block.0.weight x x xxx xxx\ncontrol_model.zero_convs.0.0.weight\n" +
		"control_model.middle_block_out.0.bias x")
	f.Add("conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_bias xxx\n" +
		"conditioner.embedders.0.transformer.text_model.position_ids")
	f.Add("down_blocks.0.resnets.0.conv1.weight xx x xxx xxx\nup_blocks.0.resnets.0.norm1.weight x\n" +
		"conv_in.weight x x x x")
	f.Add("encoder.down.0.block.0.norm1.weight x\ndecoder.up.0.block.0.norm1.weight x\n" +
		"encoder.mid.attn_1.v.weight xx xx x x")
	f.Add("text_model.embeddings.token_embedding.weight xx xx\n" +
		"text_model.encoder.layers.0.self_attn.q_proj.weight xx xx")
	f.Fuzz(func(t *testing.T, text string) {
		c := &Checkpoint{tensors: tensorsOf(text), parts: map[string]*Model{}}
		c.detect()
		if _, err := c.describe(); err != nil {
			t.Fatal(err)
		}
		components := map[string]*Model{}
		for _, name := range c.Components() {
			m, _ := c.Component(name)
			components[name] = m
			for _, key := range m.Keys() {
				if err := m.tensors[key].CheckSize(); err != nil {
					t.Fatalf("%s: %v", key, err)
				}
			}
			_, err := m.fit(nn.Tree{{Key: "conv_in.weight", Shape: []int{3, 3, 4, 8}, Kind: nn.Kernel}})
			_ = fmt.Sprint(err)
			for _, write := range []func(string) ([]safetensors.Entry, error){
				m.ldmUNet, m.ldmVAE, m.ldmControlNet, m.openCLIP,
			} {
				if entries, err := write("F16"); err == nil {
					var b bytes.Buffer
					_ = safetensors.WriteTo(&b, entries, nil)
				}
			}
		}
		_, _ = singleFile(components, "")
	})
}

// FuzzLoRAKeys checks that no set of keys crashes the reader of LoRAs.
func FuzzLoRAKeys(f *testing.F) {
	f.Add("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight xx xxx\n"+
		"lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight x xx", "")
	f.Add("unet.a.lora_A.weight xx xxx\nunet.a.lora_B.weight x xx", `{"unet.lora_alpha": 8, "unet.alpha_pattern": {"a": 3}, "unet.use_rslora": true}`)
	f.Add("unet.a.lora_A.weight xx xxx\nunet.a.lora_B.weight x xx", `{"r": 2, "rank_pattern": {"(": 1}, "alpha_pattern": {"a|b)(": 3, "^a": 1, "x{1000}": 2}}`)
	f.Add("text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora.down.weight xx x\n"+
		"x.processor.to_out_lora.up.weight x xx", "")
	f.Add("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha\nlora_unet_input_blocks_4_1_proj_in.lora_mid.weight x",
		"")
	f.Add("base_model.model.conv.lora_A.default.weight x xx xxx xxx\n"+
		"base_model.model.conv.lora_B.default.weight xx x x x", "{}")
	tree := nn.Tree{
		{Key: "conv.weight", Shape: []int{3, 3, 2, 2}, Kind: nn.Kernel},
		{Key: "a.weight", Shape: []int{3, 1}, Kind: nn.Dense},
		{Key: "down_blocks.0.attentions.0.proj_in.weight", Shape: []int{3, 1}, Kind: nn.Dense},
		{Key: "b.bias", Shape: []int{3}},
	}
	f.Fuzz(func(t *testing.T, text, metadata string) {
		c := &Checkpoint{
			tensors: tensorsOf(text), parts: map[string]*Model{}, Metadata: map[string]string{LoRAMetadata: metadata},
		}
		if metadata == "" {
			c.Metadata = nil
		}
		c.detect()
		l, err := c.lora()
		if err != nil {
			return
		}
		for _, component := range l.Components() {
			if _, err := l.Matrices(component, tree); err != nil {
				continue
			}
			for _, s := range tree {
				if delta, err := l.Delta(component, s); err != nil || delta != nil && len(delta) != s.Size() {
					t.Fatalf("%v: %d values, %v", s, len(delta), err)
				}
			}
		}
		_ = l.newPEFTFields()
	})
}
