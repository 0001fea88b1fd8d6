package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is the release that CHANGELOG.md describes, and what images and runs say that they were made with.
const version = "0.1.0"

// commit is what the program was built from, as far as the build knew it.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var revision, changed string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", changed"
		}
	}
	if revision == "" {
		return ""
	}
	return " (commit " + revision + changed + ")"
}

type versionCmd struct{}

// Help shows one working example.
func (versionCmd) Help() string { return "Example:\n\n  limner version" }

func (versionCmd) Run() error {
	_, err := fmt.Printf("limner %s%s %s %s/%s\n", version, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
