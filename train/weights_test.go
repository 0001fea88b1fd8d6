package train

import (
	"reflect"
	"strings"
	"testing"

	"limner/models/checkpoint"
	"limner/models/nn"
)

// Each parameter comes from where it should, with its own key, however it is read.
func TestStartWeights(t *testing.T) {
	files := checkpoint.InMemory{"unet.a": {1, 2}, "unet.b": {3}, "unet.c": {4}}
	w := startWeights{
		files: files, values: nn.Values{"unet.b": {5}, "new.d": {6}},
		copied: map[string]string{"new.a": "unet.a", "new.b": "unet.b"},
	}
	var tree nn.Tree
	want := nn.Values{"unet.a": {1, 2}, "unet.b": {5}, "unet.c": {4}, "new.a": {1, 2}, "new.b": {3}, "new.d": {6}}
	for key, values := range want {
		tree = append(tree, nn.Spec{Key: key, Shape: []int{len(values)}})
	}
	if got, err := checkpoint.Collect(w, tree); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("streamed %v, %v, want %v", got, err, want)
	}
	got := nn.Values{}
	err := w.Sample(tree, 2, func(spec nn.Spec, elements []float32) error {
		got[spec.Key] = elements
		return nil
	})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("sampled %v, %v, want %v", got, err, want)
	}
	if got, err := checkpoint.Collect(w.with(nn.Values{"new.a": {7, 8}}), tree); err != nil ||
		!reflect.DeepEqual(got["new.a"], []float32{7, 8}) {
		t.Errorf("trained: %v, %v", got["new.a"], err)
	}
	if got, err := checkpoint.Collect(w, tree); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("with changed what it was made of: %v, %v", got, err)
	}
	if _, err := checkpoint.Collect(w, nn.Tree{{Key: "unet.x", Shape: []int{1}}}); err == nil ||
		!strings.Contains(err.Error(), "unet.x") {
		t.Errorf("a parameter that is nowhere: %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	tree := nn.Tree{{Key: "vae.weight", Shape: []int{10, 100}}, {Key: "vae.bias", Shape: []int{3}}}
	print := func(change func(nn.Values)) string {
		values := nn.Values{"vae.weight": make([]float32, 1000), "vae.bias": {1, 2, 3}}
		change(values)
		sum, err := fingerprint(tree, checkpoint.InMemory(values))
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	was := print(func(nn.Values) {})
	if print(func(nn.Values) {}) != was {
		t.Error("the same weights differ")
	}
	if print(func(v nn.Values) { v["vae.bias"][2] = 4 }) == was ||
		print(func(v nn.Values) { v["vae.weight"][500] = 4 }) == was {
		t.Error("other weights are the same")
	}
	if _, err := fingerprint(tree, checkpoint.InMemory{}); err == nil {
		t.Error("weights that are missing have a fingerprint")
	}
}
