package step

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/pkg/core/dtypes"
	. "github.com/gomlx/gomlx/pkg/core/graph"

	"limner/internal/parity"
	"limner/models/checkpoint"
	"limner/models/nn"
	"limner/models/safetensors"
	"limner/train/folder"
	"limner/train/loss"
	"limner/train/optim"
	"limner/xla"
	"limner/xla/program"
)

// memoryOptimizers are the optimizers with each way of keeping moments.
func memoryOptimizers() []optim.Optimizer {
	var all []optim.Optimizer
	for _, name := range optim.Optimizers {
		for _, moments := range optim.MomentsDTypes {
			o := optim.DefaultOptimizer()
			o.Name, o.Moments = name, moments
			if o.Validate() == nil {
				all = append(all, o)
			}
		}
	}
	return all
}

// memoryObjective trains a matrix that is large enough for moments of 8 bits, and a kernel.
func memoryObjective() loss.Objective {
	tree := nn.Tree{
		{Key: "net.linear.weight", Shape: []int{64, 72}, Kind: nn.Dense, Init: nn.InitNormal},
		{Key: "net.conv.weight", Shape: []int{3, 1, 8, 4}, Kind: nn.Kernel, Init: nn.InitNormal},
	}
	return loss.Objective{
		Name: "memory", Trainable: tree, Compute: dtypes.Float32,
		Batch: []xla.Value{loss.BatchValue("x", dtypes.Float32, 4, 64)},
		Loss: func(p, _ nn.Params, batch program.Nodes, _ loss.Draws) *Node {
			at := func(i int) *Node {
				return p.Param(tree[i].Key, tree[i].Kind, tree[i].Init, 0, tree[i].Shape...)
			}
			y := Reshape(Dot(batch.Get("x"), at(0)), 4, 72, 1)
			return ReduceAllMean(Square(AddScalar(Mul(y, Reshape(at(1), 1, 1, 96)), -1)))
		},
	}
}

// What an optimizer remembers lies in its own dtypes in a checkpoint, and a run goes on from there to the same bits.
func TestMemoryIsSavedAsItIs(t *testing.T) {
	b, objective := parity.Backend(t), memoryObjective()
	want := map[string]map[string]string{
		"adamw f32":  {"exp_avg.net.linear.weight": "F32", "exp_avg_sq.net.conv.weight": "F32"},
		"adamw bf16": {"exp_avg.net.linear.weight": "BF16", "exp_avg_sq.net.conv.weight": "BF16"},
		"adamw 8bit": {"exp_avg.net.linear.weight": "U8", "exp_avg_sq.net.linear.weight": "U8",
			"exp_avg_absmax.net.linear.weight": "F32", "exp_avg.net.conv.weight": "F32"},
		"lion f32":  {"exp_avg.net.linear.weight": "F32"},
		"lion bf16": {"exp_avg.net.linear.weight": "BF16"},
		"lion 8bit": {"exp_avg.net.linear.weight": "U8", "exp_avg_absmax.net.linear.weight": "F32",
			"exp_avg.net.conv.weight": "F32"},
		"adafactor f32": {"exp_avg_sq_row.net.conv.weight": "F32", "exp_avg_sq_col.net.linear.weight": "F32"},
	}
	x := make([]float32, 4*64)
	for i := range x {
		x[i] = float32(i%13)/6 - 1
	}
	for _, o := range memoryOptimizers() {
		name := o.Name + " " + o.Moments
		s, err := Compile(context.Background(), b, objective, Settings{Optimizer: o, Accumulation: 1})
		if err != nil {
			t.Fatal(err)
		}
		text := s.program.StableHLO()
		if draws := strings.Contains(text, "stablehlo.xor"); draws != (o.Moments == optim.MomentsBFloat16) {
			t.Errorf("%s: the step draws random numbers: %t", name, draws)
		}
		step := func(n int) {
			t.Helper()
			if _, err := s.Run(context.Background(), n, Rates{LearningRate: 1e-3}, func() (program.Arrays, error) {
				a, err := xla.Put(b, x, xla.Batch, 4, 64)
				return program.Arrays{"x": a}, err
			}); err != nil {
				t.Fatal(err)
			}
		}
		take := func() nn.Values {
			t.Helper()
			values, err := s.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			return values
		}
		if err := s.putSeed(1); err != nil {
			t.Fatal(err)
		}
		if err := s.Load(t.Context(), checkpoint.InMemory(nn.InitValues(objective.Trainable, 1)), nil); err != nil {
			t.Fatal(err)
		}
		step(1)
		step(2)
		two := take()
		step(3)
		three := take()

		output := folder.Output{Dir: t.TempDir()}
		contents := folder.Contents{
			Trainable: objective.Trainable, Components: []folder.Component{{Name: "net", File: "net.safetensors"}},
		}
		contents.Optimizer.Tree, contents.Optimizer.DType = OptimizerState(o, objective.Trainable)
		if err := folder.NewSaver(output, contents, folder.Record{}).Save(two, folder.State{Step: 2}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		dir := filepath.Join(output.Dir, folder.Name(2))
		checkDTypes(t, name, filepath.Join(dir, "optimizer.safetensors"), want[name])
		from, _, err := folder.Open(dir, contents)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.restore(t.Context(), from); err != nil {
			t.Fatal(err)
		}
		step(3)
		if !maps.EqualFunc(take(), three, slices.Equal[[]float32]) {
			t.Errorf("%s: the third step differs after the state came from files", name)
		}
		if err := s.Free(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkDTypes(t *testing.T, name, path string, want map[string]string) {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if len(want) == 0 {
		t.Errorf("%s: no dtypes are known", name)
	}
	for key, dtype := range want {
		if tensor, ok := f.Tensor(key); !ok || tensor.DType != dtype {
			t.Errorf("%s: %s is %q, want %s", name, key, tensor.DType, dtype)
		}
	}
}
