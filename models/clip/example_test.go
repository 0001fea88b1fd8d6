package clip_test

import (
	"fmt"

	"limner/models/clip"
)

func ExampleTrainTokenizer() {
	t, err := clip.TrainTokenizer([]string{"red circle with blue background"}, 100, 8)
	if err != nil {
		panic(err)
	}
	ids, truncated := t.EncodePadded("blue circle")
	fmt.Println(len(ids), truncated, t.Decode(ids[1:3]))
	// Output: 8 false blue circle
}
