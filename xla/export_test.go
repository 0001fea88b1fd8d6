package xla

import (
	"slices"
	"sync"

	"github.com/gomlx/gomlx/backends"
)

// FindSlice and TakeSeats are what the tests see of how a process finds its place.
var (
	FindSlice = findSlice
	TakeSeats = takeSeats
)

// Places are the devices of a process.
func (s seats) Places() (order, local []backends.DeviceNum, first int, p Process) {
	return s.order, s.local, s.first, s.process
}

// Processes makes processes of a backend, as they would be on that many machines with an equal share of its devices each. They meet in every run of a
// program: the last to come runs it for all.
func Processes(b *Backend, processes int) []*Backend {
	m := &meeting{inputs: make([][]backends.Buffer, processes), donate: make([][]bool, processes)}
	m.over = sync.NewCond(&m.Mutex)
	own := b.n / processes
	var all []*Backend
	for i := range processes {
		one := &Backend{engine: b.engine, plugin: b.plugin, mesh: b.mesh, n: b.n, client: b.client, table: b.table, store: b.store}
		one.seats = seats{process: Process{i, processes}, order: b.order, local: b.local[i*own : (i+1)*own], first: i * own}
		one.run = func(p *Program, buffers []backends.Buffer, donate []bool) ([]backends.Buffer, error) {
			return m.run(p, i, buffers, donate)
		}
		all = append(all, one)
	}
	return all
}

// meeting is where the processes of a backend meet.
type meeting struct {
	sync.Mutex
	over    *sync.Cond
	inputs  [][]backends.Buffer
	donate  [][]bool
	came    int
	round   int
	results []backends.Buffer
	err     error
}

func (m *meeting) run(p *Program, process int, buffers []backends.Buffer, donate []bool) ([]backends.Buffer, error) {
	m.Lock()
	defer m.Unlock()
	m.inputs[process], m.donate[process] = buffers, donate
	round := m.round
	if m.came++; m.came < len(m.inputs) {
		for m.round == round {
			m.over.Wait()
		}
	} else {
		m.results, m.err = p.execute(slices.Concat(m.inputs...), slices.Concat(m.donate...))
		m.came, m.round = 0, round+1
		m.over.Broadcast()
	}
	each := len(m.results) / len(m.inputs)
	return m.results[process*each : (process+1)*each], m.err
}
