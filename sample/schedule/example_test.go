package schedule_test

import (
	"fmt"

	"limner/models/noise"
	"limner/sample/schedule"
)

// A file of one class serves all others, as diffusers' from_config has it.
func ExampleNew() {
	c, err := noise.ParseConfig([]byte(`{"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := schedule.New("euler", c, 5, schedule.DefaultOptions())
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, call := range s.Calls {
		fmt.Printf("timestep %6.2f, σ %7.4f\n", call.Timestep, s.Sigmas[i])
	}
	// Output:
	// timestep 999.00, σ 14.6146
	// timestep 749.25, σ  4.0861
	// timestep 499.50, σ  1.6156
	// timestep 249.75, σ  0.6952
	// timestep   0.00, σ  0.0292
}
