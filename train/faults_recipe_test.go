package train

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"

	"limner/data"
	"limner/internal/parity"
	"limner/xla/program"
)

// What follows are faults of diffusers' train_controlnet_flax.py that ours must not have. Others have their tests
// elsewhere: the latent cache in TestLatentCache, averages in TestGoldenEMADecay, flips and crops in data's TestViews,
// output as safetensors in diffusers' layout in results.

// epochs are the rows of each batch of the first epochs of a dataset.
func epochs(t *testing.T, dir string, n int) (steps int, rows [][]int64) {
	t.Helper()
	columns := data.DefaultOptions()
	columns.Resolution, columns.BatchSize = 16, 4
	d, err := data.Open([]string{dir}, columns)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	batches, err := d.Batches(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer batches.Close()
	steps = d.StepsPerEpoch()
	for range n {
		var epoch []int64
		for range steps {
			batch, err := batches.Next()
			if err != nil {
				t.Fatal(err)
			}
			epoch = append(epoch, batch.Rows...)
		}
		rows = append(rows, epoch)
	}
	return steps, rows
}

// Fault 6: steps of an epoch were not divided by the batch, and every epoch had the same order.
func TestFaultEpochs(t *testing.T) {
	steps, rows := epochs(t, smallDataset(t), 2)
	if steps != 5 {
		t.Errorf("%d steps an epoch of 20 rows in batches of 4, want 5", steps)
	}
	if slices.Equal(rows[0], rows[1]) {
		t.Error("two epochs have one order")
	}
	for _, epoch := range rows {
		slices.Sort(epoch)
		if epoch[0] != 0 || epoch[19] != 19 || len(slices.Compact(epoch)) != 20 {
			t.Errorf("an epoch has the rows %v", epoch)
		}
	}
}

// Fault 12: the dataset had to lie where the script looked for it, on that host alone.
func TestFaultDatasetElsewhere(t *testing.T) {
	dir := smallDataset(t)
	_, want := epochs(t, dir, 1)
	copied := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if _, got := epochs(t, copied, 1); !slices.Equal(got[0], want[0]) {
		t.Errorf("a copy gives the rows %v, the dataset %v", got[0], want[0])
	}
	var prints []string
	for _, path := range []string{dir, copied} {
		d, err := data.Open([]string{path}, data.DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		id, err := d.Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		prints = append(prints, id)
	}
	if prints[0] != prints[1] {
		t.Errorf("a copy is another dataset: %v", prints)
	}
}

// Fault 9: frozen networks were kept in float32, and once more for validation. Here they are in the compute dtype, and
// validation reads them where they are, see also TestResidentParameters of package sample.
func TestFaultFrozenNetworks(t *testing.T) {
	o, r, _ := smallRun(t, smallModel(t), smallDataset(t))
	r.Compute, r.CacheLatents = dtypes.BFloat16, false
	run, err := NewControlNet(context.Background(), parity.Backend(t), o, r)
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	resident := program.Arrays{}
	for _, spec := range run.Objective.FrozenTree() {
		resident[spec.Key] = nil
	}
	if run.Objective.Compute != dtypes.BFloat16 { // see TestDTypes of train/step
		t.Errorf("frozen networks are kept as %s", run.Objective.Compute)
	}
	for _, key := range []string{
		"unet.conv_in.weight", "text_encoder.text_model.final_layer_norm.bias", "vae.encoder.conv_in.weight",
	} {
		if _, ok := resident[key]; !ok {
			t.Errorf("%s is not among the frozen parameters", key)
		}
	}
	model := run.Drawing(resident)
	if model.Compute != dtypes.BFloat16 || len(model.Resident) != len(resident) {
		t.Errorf("validation draws in %s with %d parameters of training, want bfloat16 and %d",
			model.Compute, len(model.Resident), len(resident))
	}
}
