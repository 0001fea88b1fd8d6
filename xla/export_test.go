package xla

import (
	"slices"
	"sync"

	"limner/xla/pjrt"
)

// FindSlice and TakeSeats are what the tests see of how a process finds its place.
var (
	FindSlice = findSlice
	TakeSeats = takeSeats
)

// Places are the devices of a process.
func (s seats) Places() (order, local []int, first int, p Process) {
	return s.order, s.local, s.first, s.process
}

// Processes makes processes of a backend, as they would be on that many machines with an equal share of its devices
// each. They meet in every run of a program: the last to come runs it for all.
func Processes(b *Backend, processes int) []*Backend {
	m := &meeting{inputs: make([][]*pjrt.Buffer, processes)}
	m.over = sync.NewCond(&m.Mutex)
	own := b.n / processes
	var all []*Backend
	for i := range processes {
		one := &Backend{
			plugin: b.plugin, table: b.table, client: b.client, platform: b.platform, kind: b.kind, n: b.n,
			graphs: b.graphs, mesh: b.mesh, effort: b.effort, store: b.store, identity: b.identity,
		}
		one.seats = seats{
			process: Process{i, processes}, order: b.order, local: b.local[i*own : (i+1)*own], first: i * own,
		}
		one.run = func(p *Program, buffers []*pjrt.Buffer) ([]*pjrt.Buffer, error) {
			return m.run(p, b.n, i, buffers)
		}
		all = append(all, one)
	}
	return all
}

// meeting is where the processes of a backend meet.
type meeting struct {
	sync.Mutex
	over    *sync.Cond
	inputs  [][]*pjrt.Buffer
	came    int
	round   int
	results []*pjrt.Buffer
	err     error
}

func (m *meeting) run(p *Program, devices, process int, buffers []*pjrt.Buffer) ([]*pjrt.Buffer, error) {
	m.Lock()
	defer m.Unlock()
	m.inputs[process] = buffers
	round := m.round
	if m.came++; m.came < len(m.inputs) {
		for m.round == round {
			m.over.Wait()
		}
	} else {
		m.results, m.err = p.loaded.Execute(slices.Concat(m.inputs...), devices, p.states)
		m.came, m.round = 0, round+1
		m.over.Broadcast()
	}
	each := len(m.results) / len(m.inputs)
	return m.results[process*each : (process+1)*each], m.err
}
