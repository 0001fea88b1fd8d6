package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// reporting are the flags that say where a run and its result are to be shown. Nothing is sent anywhere: the run ends
// with the commands that do so.
type reporting struct {
	ReportTo           string `group:"logging" enum:"tensorboard,wandb,all,none" default:"tensorboard" help:"tensorboard, wandb, all or none. wandb: TensorBoard's events, and at the end the command that uploads them. metrics.jsonl and diary.html are always written."`
	TrackerProjectName string `group:"logging" placeholder:"NAME" help:"Project of --report_to wandb, in that command."`
	WandbEntity        string `name:"wandb-entity" group:"logging" placeholder:"NAME" help:"Team of --report_to wandb, in that command."`
	PushToHub          bool   `name:"push-to-hub" group:"output" help:"End with the command that uploads the result."`
	HubModelID         string `name:"hub-model-id" group:"output" placeholder:"NAME" help:"Repo of --push_to_hub; without it, the output folder's name."`
}

// tell writes the commands that send a run's events and its result on.
func (f reporting) tell(w io.Writer, outputDir, loggingDir string) {
	if loggingDir != "" && (f.ReportTo == "wandb" || f.ReportTo == "all") {
		if !filepath.IsAbs(loggingDir) {
			loggingDir = filepath.Join(outputDir, loggingDir)
		}
		command := []string{"wandb", "sync", "--sync-tensorboard"}
		if f.TrackerProjectName != "" {
			command = append(command, "--project", f.TrackerProjectName)
		}
		if f.WandbEntity != "" {
			command = append(command, "--entity", f.WandbEntity)
		}
		fmt.Fprintf(w, "report_to %s: this uploads TensorBoard's events, with wandb up to 0.29.0 "+
			"(pip install \"wandb<=0.29.0\" tensorboard):\n  %s\n",
			f.ReportTo, shellLine(append(command, loggingDir)...))
	}
	if f.PushToHub {
		name := f.HubModelID
		if name == "" {
			name = filepath.Base(outputDir)
		}
		fmt.Fprintf(w, "push_to_hub: this uploads the result (pip install huggingface_hub):\n  %s\n",
			shellLine("hf", "upload", name, outputDir, ".", "--exclude", "checkpoint-*"))
	}
}

// shellLine is a command as a shell reads it.
func shellLine(words ...string) string {
	for i, word := range words {
		words[i] = shellWord(word)
	}
	return strings.Join(words, " ")
}
