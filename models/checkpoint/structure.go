package checkpoint

import (
	"fmt"

	"limner/models/nn"
)

// The components of a model, named as the folders that hold them.
const (
	UNet         = "unet"
	VAE          = "vae"
	TextEncoder  = "text_encoder"
	TextEncoder2 = "text_encoder_2"
	ControlNet   = "controlnet"
)

// Structure is what the keys and shapes of a network tell of its config. Fields have the names of
// diffusers' and transformers' configs; those that the network does not have are zero. The number of
// attention heads, the groups and epsilons of norms and activations leave no trace in weights.
type Structure struct {
	Component string // UNet, ControlNet, VAE or TextEncoder

	// Of a UNet, a ControlNet and a VAE.
	InChannels       int
	OutChannels      int // not of a ControlNet
	BlockOutChannels []int
	LayersPerBlock   int

	// Of a UNet and a ControlNet.
	TransformerLayers    []int // transformer_layers_per_block; 0 in a level without attention, as in a DownBlock2D
	MidTransformerLayers int   // of the middle block; 0 where it has no attention
	CrossAttentionDim    int
	LinearProjection     bool // use_linear_projection
	AdditionInputDim     int  // projection_class_embeddings_input_dim, with addition_embed_type text_time; else 0

	// Of a ControlNet.
	ConditioningChannels             int
	ConditioningEmbeddingOutChannels []int

	// Of a VAE.
	LatentChannels int

	// Of a text encoder.
	VocabSize             int
	HiddenSize            int
	IntermediateSize      int
	NumHiddenLayers       int
	MaxPositionEmbeddings int
	ProjectionDim         int // of a text encoder with projection; else 0
}

// Structure infers a network's structure. It is false where the keys are of no known network, in
// which case Load names those that are missing.
func (m *Model) Structure() (Structure, bool) {
	shapes := make(map[string][]int, len(m.tensors))
	for key, t := range m.tensors {
		shapes[newName(key)] = t.Shape
	}
	return structureOf(shapes)
}

// StructureOf infers the structure of the network that a tree describes.
func StructureOf(tree nn.Tree) (Structure, bool) {
	shapes := make(map[string][]int, len(tree))
	for _, s := range tree {
		shapes[s.Key] = s.FileShape()
	}
	return structureOf(shapes)
}

// keyShapes are the shapes of a network's tensors by diffusers' keys, with what lies around them.
type keyShapes struct {
	shapes map[string][]int
	modules
}

func structureOf(shapes map[string][]int) (Structure, bool) {
	k := keyShapes{shapes: shapes, modules: modulesOf(shapes)}
	var s Structure
	switch {
	case k.modules["controlnet_cond_embedding"] || k.modules["controlnet_down_blocks"]:
		s = k.controlNet()
	case k.modules["encoder.down_blocks"] || k.modules["decoder.up_blocks"]:
		s = k.vae()
	case k.modules["down_blocks"] && k.modules["up_blocks"]:
		s = k.unet()
	case k.modules["text_model.embeddings"] || k.modules["embeddings.token_embedding"]:
		s = k.text()
	default:
		return s, false
	}
	return s, true
}

// dim is a dimension of a tensor, 0 where there is none.
func (k keyShapes) dim(key string, axis int) int {
	shape := k.shapes[key]
	if axis >= len(shape) {
		return 0
	}
	return shape[axis]
}

func (k keyShapes) encoder(component string) Structure {
	s := Structure{Component: component, InChannels: k.dim("conv_in.weight", 1)}
	b := diffusersBlocks(k.modules)
	for level, n := range b.resnets {
		if level == 0 {
			s.LayersPerBlock = n
		}
		block := at("down_blocks", level)
		s.BlockOutChannels = append(s.BlockOutChannels, k.dim(at(block, "resnets.0.conv1.weight"), 0))
		s.TransformerLayers = append(s.TransformerLayers, k.transformer(&s, at(block, "attentions.0")))
	}
	s.MidTransformerLayers = k.transformer(&s, "mid_block.attentions.0")
	s.AdditionInputDim = k.dim("add_embedding.linear_1.weight", 1)
	return s
}

// transformer returns a transformer's depth, and notes the widths that are the same in all of them.
func (k keyShapes) transformer(s *Structure, name string) int {
	depth := k.count(at(name, "transformer_blocks"))
	if depth > 0 && s.CrossAttentionDim == 0 {
		s.CrossAttentionDim = k.dim(at(name, "transformer_blocks.0.attn2.to_k.weight"), 1)
		s.LinearProjection = len(k.shapes[at(name, "proj_in.weight")]) == 2
	}
	return depth
}

func (k keyShapes) unet() Structure {
	s := k.encoder(UNet)
	s.OutChannels = k.dim("conv_out.weight", 0)
	return s
}

func (k keyShapes) controlNet() Structure {
	s := k.encoder(ControlNet)
	const embedding = "controlnet_cond_embedding"
	s.ConditioningChannels = k.dim(embedding+".conv_in.weight", 1)
	// Blocks come in pairs: one keeps the width, the next goes on to another.
	if first := k.dim(embedding+".conv_in.weight", 0); first > 0 {
		s.ConditioningEmbeddingOutChannels = []int{first}
	}
	for i := 1; k.modules[at(embedding, "blocks", i)]; i += 2 {
		s.ConditioningEmbeddingOutChannels = append(s.ConditioningEmbeddingOutChannels,
			k.dim(at(embedding, "blocks", i, "weight"), 0))
	}
	return s
}

func (k keyShapes) vae() Structure {
	s := Structure{
		Component: VAE, InChannels: k.dim("encoder.conv_in.weight", 1),
		OutChannels: k.dim("decoder.conv_out.weight", 0), LayersPerBlock: k.count("encoder.down_blocks.0.resnets"),
		LatentChannels: k.dim("decoder.conv_in.weight", 1),
	}
	for level := range k.count("encoder.down_blocks") {
		s.BlockOutChannels = append(s.BlockOutChannels,
			k.dim(at("encoder.down_blocks", level, "resnets.0.conv1.weight"), 0))
	}
	return s
}

func (k keyShapes) text() Structure {
	prefix := ""
	if k.modules["text_model.embeddings"] {
		prefix = textPrefix
	}
	return Structure{
		Component:             TextEncoder,
		VocabSize:             k.dim(prefix+"embeddings.token_embedding.weight", 0),
		HiddenSize:            k.dim(prefix+"embeddings.token_embedding.weight", 1),
		MaxPositionEmbeddings: k.dim(prefix+"embeddings.position_embedding.weight", 0),
		NumHiddenLayers:       k.count(prefix + "encoder.layers"),
		IntermediateSize:      k.dim(prefix+"encoder.layers.0.mlp.fc1.weight", 0),
		ProjectionDim:         k.dim("text_projection.weight", 0),
	}
}

// Family is a line of models that share their structure and their text encoders.
type Family string

const (
	UnknownFamily Family = "unknown"
	SD1           Family = "SD 1.x"
	SD2           Family = "SD 2.x"
	SDXL          Family = "SDXL base"
	SDXLRefiner   Family = "SDXL refiner"
)

// guess tells a network's family by its structure, with the reasons. Published widths decide; networks of
// other widths are told by how they are built.
func (s Structure) guess() (Family, []string) {
	switch s.Component {
	case UNet, ControlNet:
		width := fmt.Sprintf("cross_attention_dim %d", s.CrossAttentionDim)
		added := fmt.Sprintf("projection_class_embeddings_input_dim %d", s.AdditionInputDim)
		switch {
		case s.CrossAttentionDim == 1280 && s.AdditionInputDim > 0:
			return SDXLRefiner, []string{width, added}
		case s.AdditionInputDim > 0:
			return SDXL, []string{width, added}
		case s.CrossAttentionDim == 768:
			return SD1, []string{width}
		case s.CrossAttentionDim == 1024:
			return SD2, []string{width}
		case s.CrossAttentionDim > 0 && s.LinearProjection:
			return SD2, []string{width, "linear projections around transformers"}
		case s.CrossAttentionDim > 0:
			return SD1, []string{width, "convolutions around transformers"}
		}
	case TextEncoder:
		width := fmt.Sprintf("hidden_size %d", s.HiddenSize)
		switch {
		case s.ProjectionDim > 0:
			return SDXL, []string{width, fmt.Sprintf("projection_dim %d", s.ProjectionDim)}
		case s.HiddenSize == 1024:
			return SD2, []string{width}
		case s.HiddenSize == 768:
			return SD1, []string{width + ", which SDXL's first text encoder has too"}
		}
	}
	return UnknownFamily, nil
}

// Inpainting says whether a UNet takes a mask and a masked image beside the latents.
func (s Structure) Inpainting() bool { return s.Component == UNet && s.InChannels == 9 }

// describe names the network by what tells families apart.
func (s Structure) describe() string {
	family, _ := s.guess()
	of := ""
	if family != UnknownFamily {
		of = " of " + string(family)
	}
	switch s.Component {
	case UNet:
		return fmt.Sprintf("a UNet%s (cross_attention_dim %d, in_channels %d)", of, s.CrossAttentionDim, s.InChannels)
	case ControlNet:
		return fmt.Sprintf("a ControlNet%s (cross_attention_dim %d)", of, s.CrossAttentionDim)
	case TextEncoder:
		return fmt.Sprintf("a text encoder (hidden_size %d)", s.HiddenSize)
	}
	return fmt.Sprintf("a VAE (latent_channels %d)", s.LatentChannels)
}
