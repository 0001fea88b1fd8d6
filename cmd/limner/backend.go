package main

import (
	"context"
	"os"

	"limner/xla"
)

// backendFlags choose the devices.
type backendFlags struct {
	Backend    string `default:"cpu" help:"Devices to compute on: cpu, tpu, cuda, or the path of a PJRT plugin."`
	NumDevices int    `placeholder:"N" help:"How many of them; without it, one CPU device or all others."`
}

// open takes the devices, installing their plugin on first use.
func (f backendFlags) open(ctx context.Context) (*xla.Backend, error) {
	return xla.Open(ctx, xla.Options{Backend: f.Backend, Devices: f.NumDevices, Log: os.Stderr})
}
