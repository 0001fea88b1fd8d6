package watch

import "time"

// Progress is one step of a run, as metrics.jsonl has it.
type Progress struct {
	Step            int     `json:"step"` // optimizer steps made
	Epoch           int     `json:"epoch"`
	Images          int     `json:"images_seen"`
	Loss            float64 `json:"loss"`
	GradNorm        float64 `json:"grad_norm"` // before clipping
	LearningRate    float64 `json:"lr"`
	ImagesPerSecond float64 `json:"images_per_s"`
	WentBackAt      int     `json:"went_back_at,omitempty"` // the step that was not finite, in the next step's line
	Spent                   // in this step, or between the last one and this
	DataStall       float64 `json:"data_stall"` // share of the time since the process began in which no batch was ready
	TFLOPs          float64 `json:"tflops"`     // TFLOP/s of this step, over all devices
	PeakShare       float64 `json:"peak_share,omitempty"`

	Steps int           `json:"-"` // of the whole run
	Left  time.Duration `json:"-"` // at this pace
}

// Spent is where the time of a run went, in seconds.
type Spent struct {
	DataWait   float64 `json:"data_wait_s"`  // the devices had nothing to do, since no batch was ready
	Device     float64 `json:"device_s"`     // in the training step, with the upload of its batch
	Saving     float64 `json:"saving_s"`     // training stood still for a checkpoint
	Validation float64 `json:"validation_s"` // and for validation
}

func (s *Spent) add(other Spent) {
	s.DataWait += other.DataWait
	s.Device += other.Device
	s.Saving += other.Saving
	s.Validation += other.Validation
}

// scalars are the numbers of a step for TensorBoard; loss and lr are diffusers' names.
func (p Progress) scalars() map[string]float64 {
	numbers := map[string]float64{
		"loss": p.Loss, "lr": p.LearningRate, "grad_norm": p.GradNorm, "epoch": float64(p.Epoch),
		"images_seen": float64(p.Images), "throughput/images_per_s": p.ImagesPerSecond,
		"throughput/data_stall": p.DataStall, "throughput/tflops": p.TFLOPs,
	}
	if p.PeakShare > 0 {
		numbers["throughput/peak_share"] = p.PeakShare
	}
	return numbers
}
