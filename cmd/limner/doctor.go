package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"limner/xla/plugin"
)

type doctorCmd struct {
	runFlags
	JSON bool `name:"json" help:"Print the report as JSON."`
}

// Help shows one working example.
func (doctorCmd) Help() string {
	return `Example:

  limner doctor --backend cpu

It installs the plugin if it is not there. The exit code is 0 where nothing is wrong.`
}

func (c doctorCmd) Run(ctx context.Context) error {
	r := plugin.Diagnose(ctx, plugin.DoctorOptions{
		Backend: c.Backend, Devices: c.NumDevices, Install: plugin.InstallOptions{Progress: os.Stderr},
		Cache: c.compilationCache(),
	})
	text := r.Text()
	if c.JSON {
		raw, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		text = string(raw) + "\n"
	}
	if _, err := fmt.Print(text); err != nil {
		return err
	}
	if n := len(r.Problems); n > 0 {
		return fmt.Errorf("%d of the checks found a problem, see above", n)
	}
	return nil
}
