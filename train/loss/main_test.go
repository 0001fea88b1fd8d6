package loss

import (
	"testing"

	"limner/internal/parity"
)

func TestMain(m *testing.M) { parity.Main(m) }
