package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"

	"github.com/alecthomas/kong"

	"limner/train"
	"limner/xla"
)

// seedMapper reads seeds. -1 draws one, the same for all that asks within a command.
type seedMapper struct{ drawn *uint64 }

// Decode is of kong's interface of mappers.
func (m *seedMapper) Decode(d *kong.DecodeContext, target reflect.Value) error {
	text, err := popNumber(d.Scan)
	if err != nil {
		return err
	}
	if text != "-1" {
		return setUint(target, text)
	}
	if m.drawn == nil {
		m.drawn = new(uint64)
		*m.drawn = uint64(rand.Uint32()) // what all programs take for a seed
	}
	target.SetUint(*m.drawn)
	return nil
}

// drawnSeed is the flag whose seed was drawn in place of -1, or nil.
func drawnSeed(command *kong.Context) *kong.Flag {
	for _, flag := range command.Flags() {
		if m, ok := flag.Mapper.(*seedMapper); ok && m.drawn != nil {
			return flag
		}
	}
	return nil
}

// saySeed says which seed a command goes by that was given -1: the one that was drawn, or that of what it goes on with.
func saySeed(drawn, seed uint64) {
	if seed != drawn {
		fmt.Fprintf(os.Stderr, "seed %d, which this began with\n", seed)
		return
	}
	fmt.Fprintf(os.Stderr, "seed %d, drawn for --seed -1\n", seed)
}

// settleSeed gives a run that was given -1 the seed that it began with, if it goes on, and says which it is.
func settleSeed(command *kong.Context, b *xla.Backend, o *train.Options) error {
	flag := drawnSeed(command)
	if flag == nil {
		return nil
	}
	if !b.Process().Alone() {
		return usageError{errors.New("seed: the machines of a run need the same one: give a number in place of -1")}
	}
	drawn := o.Seed
	began, ok, err := o.SeedBegunWith()
	if err != nil {
		return err
	}
	if ok {
		o.Seed = began
		flag.Target.SetUint(began) // which the recipe that is written reads
	}
	saySeed(drawn, o.Seed)
	return nil
}
