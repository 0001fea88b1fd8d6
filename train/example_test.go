package train_test

import (
	"fmt"

	"limner/train/optim"
)

func ExampleSchedule_At() {
	s := optim.Schedule{Name: "cosine", Warmup: 10, Steps: 100}
	for _, step := range []int{0, 5, 10, 55, 99} {
		fmt.Printf("%d: %.2g\n", step, s.At(step, 1e-3))
	}
	// Output:
	// 0: 0
	// 5: 0.0005
	// 10: 0.001
	// 55: 0.0005
	// 99: 3e-07
}
