package checkpoint_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/safetensors"
)

func ExampleOpenFile() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "vae.safetensors")
	err = safetensors.Write(path, []safetensors.Entry{
		{Key: "encoder.down.0.block.0.conv1.weight", DType: "F16", Shape: []int{8, 8, 3, 3},
			Data: make([]byte, 8*8*9*2)},
		{Key: "encoder.mid.attn_1.q.bias", DType: "F16", Shape: []int{8}, Data: make([]byte, 16)},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}

	c, err := checkpoint.OpenFile(path)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.Kind, c.Dialect, c.Components())
	vae, _ := c.Component(checkpoint.VAE)
	for _, key := range vae.Keys() {
		fmt.Println(key)
	}
	// Output:
	// component LDM [vae]
	// encoder.down_blocks.0.resnets.0.conv1.weight
	// encoder.mid_block.attentions.0.to_q.bias
}

func ExampleModel_Stream() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	tree := nn.Tree{{Key: "linear.weight", Shape: []int{2, 3}, Kind: nn.Dense}, {Key: "linear.bias", Shape: []int{3}}}
	values := nn.Values{"linear.weight": {1, 2, 3, 4, 5, 6}, "linear.bias": {7, 8, 9}}
	if err := checkpoint.SaveModel(dir, "model.safetensors", tree, values, "F32"); err != nil {
		log.Fatal(err)
	}

	m, err := checkpoint.OpenModel(dir)
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	err = m.Stream(tree, "BF16", func(s nn.Spec, write func(to []byte) error) error {
		data := make([]byte, 2*s.Size())
		if err := write(data); err != nil {
			return err
		}
		fmt.Printf("%v: %x\n", s, data)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// linear.weight [2 3]: 803f004040408040a040c040
	// linear.bias [3]: e04000411041
}
