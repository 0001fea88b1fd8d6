package batch

import "testing"

// A batch is no larger than the images that there are, except where an image of a larger one is repeated.
func TestBatch(t *testing.T) {
	for _, c := range []struct {
		options          Options
		n, devices, want int
	}{
		{Options{}, 9, 1, 4},
		{Options{}, 3, 2, 4},
		{Options{Settings: Settings{BatchSize: 4096}}, 1, 1, 1},
		{Options{Settings: Settings{BatchSize: 4096}}, 3, 2, 4},
		{Options{Settings: Settings{BatchSize: 2}}, 3, 1, 2},
		{Options{Settings: Settings{BatchSize: 3}}, 1, 2, 3}, // refused later: it does not divide
		{Options{Settings: Settings{BatchSize: 4}, Like: "a.png"}, 1, 1, 4},
		{Options{Settings: Settings{BatchSize: 4, BatchRow: 2}}, 1, 1, 4},
	} {
		if got := c.options.batch(c.n, c.devices); got != c.want {
			t.Errorf("%+v: %d images on %d devices: got %d, want %d", c.options.Settings, c.n, c.devices, got, c.want)
		}
	}
}
