package watch

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestMetricsWithoutAValue: a number that nothing has set yet is not exported, rather than as 0.
func TestMetricsWithoutAValue(t *testing.T) {
	m, err := serveMetrics("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}()
	numbers := func() string {
		response, err := http.Get("http://" + m.address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		raw, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if got := numbers(); strings.Contains(got, "limner_") {
		t.Errorf("before the first step: %s", got)
	}
	loss := 0.5
	m.validated(Validated{Step: 3, Loss: &loss})
	got := numbers()
	for _, want := range []string{"limner_last_validation_step 3\n", "limner_validation_loss 0.5\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if strings.Contains(got, "limner_validation_f1") || strings.Contains(got, "limner_loss") {
		t.Errorf("numbers without a value: %s", got)
	}
}
