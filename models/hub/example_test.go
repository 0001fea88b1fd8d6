package hub_test

import (
	"fmt"

	"limner/models/hub"
)

func ExampleParseRef() {
	for _, s := range []string{"org/name", "org/name@v1.0", "org/name/lora.safetensors", "name"} {
		ref, err := hub.ParseRef(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("repo %s, revision %s, path %q\n", ref.Repo, ref.Revision, ref.Path)
	}
	// Output:
	// repo org/name, revision main, path ""
	// repo org/name, revision v1.0, path ""
	// repo org/name, revision main, path "lora.safetensors"
	// model "name": want org/name, org/name@revision or org/name/file.safetensors
}
