package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricHelp says what each number is.
var metricHelp = map[string]string{
	"step":                   "Optimizer steps made.",
	"steps":                  "Optimizer steps of the whole run.",
	"epoch":                  "Epoch of the last batch.",
	"images_seen":            "Images that the run has trained on.",
	"loss":                   "Loss of the last step.",
	"grad_norm":              "Global norm of the gradients before clipping.",
	"learning_rate":          "Learning rate of the last step.",
	"images_per_second":      "Images trained on in a second since the process began.",
	"seconds_left":           "Seconds that the run will take at this pace.",
	"data_stall_share":       "Share of the time in which no batch was ready.",
	"tflops":                 "TFLOP/s of the last step, over all devices.",
	"data_wait_seconds":      "Seconds in which no batch was ready.",
	"device_seconds":         "Seconds in the training step.",
	"saving_seconds":         "Seconds in which training stood still for checkpoints.",
	"validation_seconds":     "Seconds in which training stood still for validation.",
	"validation_loss":        "Loss of the last validation.",
	"validation_f1":          "How well the last validation images follow the lines of their condition, 0 to 1.",
	"validation_correlation": "How well the last validation images follow their condition, -1 to 1.",
	"validation_baseline":    "How well images without the ControlNet follow the condition, by the same measure.",
	"last_step_unixtime":     "When the last step was made.",
	"last_validation_step":   "Step of the last validation.",
}

// metricsServer serves a run's numbers in Prometheus' format.
type metricsServer struct {
	address string
	server  *http.Server
	gauges  map[string]prometheus.Gauge // made with their first value: without one, none is exported, rather than 0
	expose  *prometheus.Registry
	spent   Spent
}

// serveMetrics serves /metrics at an address until close.
func serveMetrics(address string) (*metricsServer, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve metrics: %w", err)
	}
	m := &metricsServer{
		address: listener.Addr().String(), gauges: map[string]prometheus.Gauge{}, expose: prometheus.NewRegistry(),
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.expose, promhttp.HandlerOpts{}))
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = m.server.Serve(listener) }() // ends with close
	return m, nil
}

func (m *metricsServer) set(values map[string]float64) {
	for name, value := range values {
		g := m.gauges[name]
		if g == nil {
			g = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "limner", Name: name, Help: metricHelp[name]})
			m.expose.MustRegister(g) // the names are distinct
			m.gauges[name] = g
		}
		g.Set(value)
	}
}

func (m *metricsServer) step(p Progress) {
	m.spent.add(p.Spent)
	m.set(map[string]float64{
		"step": float64(p.Step), "steps": float64(p.Steps), "epoch": float64(p.Epoch), "images_seen": float64(p.Images),
		"loss": p.Loss, "grad_norm": p.GradNorm, "learning_rate": p.LearningRate,
		"images_per_second": p.ImagesPerSecond, "seconds_left": p.Left.Seconds(), "data_stall_share": p.DataStall,
		"tflops": p.TFLOPs, "data_wait_seconds": m.spent.DataWait, "device_seconds": m.spent.Device,
		"saving_seconds": m.spent.Saving, "validation_seconds": m.spent.Validation,
		"last_step_unixtime": float64(time.Now().Unix()),
	})
}

func (m *metricsServer) validated(v Validated) {
	m.set(map[string]float64{"last_validation_step": float64(v.Step)})
	if v.Loss != nil {
		m.set(map[string]float64{"validation_loss": *v.Loss})
	}
	if v.Fidelity != nil {
		m.set(map[string]float64{"validation_" + v.Fidelity.key(): v.Fidelity.Score})
	}
	if v.Baseline != nil {
		m.set(map[string]float64{"validation_baseline": v.Baseline.Score})
	}
}

func (m *metricsServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := m.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return m.server.Close()
}
