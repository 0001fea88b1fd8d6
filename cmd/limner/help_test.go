package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// Whatever group a flag names is one that --help has a place and a title for, and --help lists the groups in that
// order.
func TestFlagGroups(t *testing.T) {
	parser, err := newParser()
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(false) {
		last := -1
		for _, flag := range leaf.Flags {
			if flag.Group == nil {
				_, isRecipe := flag.Target.Interface().(recipeFile)
				if strings.HasPrefix(leaf.FullPath(), "limner train ") && flag.Name != "help" && !isRecipe {
					t.Errorf("%s: --%s is in no group", leaf.FullPath(), flag.Name)
				}
				continue
			}
			at := slices.IndexFunc(flagGroups, func(g kong.Group) bool { return g.Key == flag.Group.Key })
			if at < 0 {
				t.Errorf("%s: --%s is in the group %q, which help.go does not list",
					leaf.FullPath(), flag.Name, flag.Group.Key)
			} else if at < last {
				t.Errorf("%s: --%s of the group %q comes too late", leaf.FullPath(), flag.Name, flag.Group.Key)
			}
			last = at
		}
	}
}
