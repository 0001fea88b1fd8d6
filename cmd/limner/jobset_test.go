package main

import (
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"limner/xla"
)

// TestJobSet reads the manifest for a v4-32: a pod for each of its machines with all chips of one, and flags that train
// controlnet has.
func TestJobSet(t *testing.T) {
	raw, err := os.ReadFile("../../docs/tpu-jobset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Kind string
		Spec struct {
			ReplicatedJobs []struct {
				Template struct {
					Spec struct {
						Parallelism, Completions int
						Template                 struct {
							Spec struct {
								NodeSelector map[string]string `yaml:"nodeSelector"`
								Containers   []struct {
									Command, Args []string
									Resources     struct{ Limits map[string]int }
								}
							}
						}
					}
				}
			} `yaml:"replicatedJobs"`
		}
	}
	if err := yaml.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	topology, err := xla.FindTopology("v4-32")
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Spec.ReplicatedJobs) != 1 || manifest.Kind != "JobSet" {
		t.Fatalf("got %+v, want a JobSet of one job", manifest)
	}
	job := manifest.Spec.ReplicatedJobs[0].Template.Spec
	pod := job.Template.Spec
	if n := topology.Hosts(); job.Parallelism != n || job.Completions != n {
		t.Errorf("got %d pods of %d at a time, want %d", job.Completions, job.Parallelism, n)
	}
	if got := pod.NodeSelector["cloud.google.com/gke-tpu-topology"]; got != "2x2x4" {
		t.Errorf("topology %q, want 2x2x4", got)
	}
	if len(pod.Containers) != 1 {
		t.Fatalf("got %d containers, want 1", len(pod.Containers))
	}
	c := pod.Containers[0]
	if got, want := c.Resources.Limits["google.com/tpu"], topology.Chips()/topology.Hosts(); got != want {
		t.Errorf("got %d chips a pod, want %d", got, want)
	}
	stdout, stderr, code := limner(t, ".", append(c.Command[1:], "--help")...)
	if code != 0 {
		t.Fatalf("%v: exit code %d: %s", c.Command, code, stderr)
	}
	for _, arg := range c.Args {
		name, _, _ := strings.Cut(arg, "=")
		if !strings.Contains(stdout, strings.ReplaceAll(name, "_", "-")) {
			t.Errorf("%v has no flag %s", c.Command, name)
		}
	}
}
