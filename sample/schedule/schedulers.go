package schedule

import (
	"fmt"
	"slices"
	"strings"

	"limner/internal/suggest"
	"limner/models/noise"
)

// scheduler is one that can be asked for by name.
type scheduler struct {
	name   string // the short one; that of the class means the same where set is nil
	class  string
	set    func(*noise.Config) // what the name asks for beyond the class
	builds func(c noise.Config, steps, begin int, o Options) (Schedule, error)
}

// schedulers lists all, for each class the plain one first.
func schedulers() []scheduler {
	karras := func(c *noise.Config) { c.UseKarrasSigmas, c.UseExponentialSigmas, c.UseBetaSigmas = true, false, false }
	solver := func(algorithm string, order int, more ...func(*noise.Config)) func(*noise.Config) {
		return func(c *noise.Config) {
			c.AlgorithmType, c.SolverOrder = algorithm, order
			for _, set := range more {
				set(c)
			}
		}
	}
	const ode, sde = "dpmsolver++", "sde-dpmsolver++"
	return []scheduler{
		{"ddim", noise.DDIM, nil, newDDIM},
		{"ddpm", noise.DDPM, nil, newDDPM},
		{"pndm", noise.PNDM, nil, newPNDM},
		{"lms", noise.LMS, nil, newLMS},
		{"lms_karras", noise.LMS, karras, newLMS},
		{"euler", noise.Euler, nil, newEuler},
		{"euler_karras", noise.Euler, karras, newEuler},
		{"euler_a", noise.EulerAncestral, nil, newEulerAncestral},
		{"heun", noise.Heun, nil, newHeun},
		{"heun_karras", noise.Heun, karras, newHeun},
		{"dpm++", noise.DPMSolver, nil, newDPMSolver},
		{"dpm++_2m", noise.DPMSolver, solver(ode, 2), newDPMSolver},
		{"dpm++_2m_karras", noise.DPMSolver, solver(ode, 2, karras), newDPMSolver},
		{"dpm++_3m", noise.DPMSolver, solver(ode, 3), newDPMSolver},
		{"dpm++_3m_karras", noise.DPMSolver, solver(ode, 3, karras), newDPMSolver},
		{"dpm++_sde", noise.DPMSolver, solver(sde, 1), newDPMSolver},
		{"dpm++_sde_karras", noise.DPMSolver, solver(sde, 1, karras), newDPMSolver},
		{"dpm++_2m_sde", noise.DPMSolver, solver(sde, 2), newDPMSolver},
		{"dpm++_2m_sde_karras", noise.DPMSolver, solver(sde, 2, karras), newDPMSolver},
		{"dpm++_3m_sde", noise.DPMSolver, solver(sde, 3), newDPMSolver},
		{"dpm++_3m_sde_karras", noise.DPMSolver, solver(sde, 3, karras), newDPMSolver},
		{"unipc", noise.UniPC, nil, newUniPC},
		{"unipc_karras", noise.UniPC, karras, newUniPC},
		{"lcm", noise.LCM, nil, newLCM},
		{"flow_match_euler", noise.FlowMatch, nil, newFlowMatch},
	}
}

// Names lists the short names that New knows. It knows the classes of diffusers as well.
func Names() []string {
	var names []string
	for _, s := range schedulers() {
		names = append(names, s.name)
	}
	return names
}

// ShortNames is what Names lists, as text for people: [_karras] stands behind those that have a variant of that name.
func ShortNames() string {
	names := Names()
	var text []string
	for _, name := range names {
		base, karras := strings.CutSuffix(name, "_karras")
		if i := slices.Index(text, base); karras && i >= 0 {
			text[i] += "[_karras]"
		} else {
			text = append(text, name)
		}
	}
	return strings.Join(text, ", ")
}

// New computes the schedule of a scheduler, which diffusers would build from the config by from_config: fields that
// were not given have the defaults of the scheduler's class. The name is a short one of Names, a class of diffusers, or
// "" for the config's own class.
func New(name string, c noise.Config, steps int, o Options) (Schedule, error) {
	own := name == ""
	if own {
		name = c.ClassName
	}
	s, err := schedulerNamed(name)
	if err != nil && own {
		err = fmt.Errorf("the model's own %w; name one by --scheduler NAME", err)
	}
	if err != nil {
		return Schedule{}, err
	}
	c = c.For(s.class)
	if s.set != nil {
		s.set(&c)
	}
	if err := c.Validate(); err != nil {
		return Schedule{}, fmt.Errorf("scheduler %s: %w", name, err)
	}
	if c.RescaleBetasZeroSNR && c.PredictionType == noise.Epsilon {
		return Schedule{},
			fmt.Errorf("scheduler %s: rescale_betas_zero_snr goes with prediction_type v_prediction or sample, not "+
				"epsilon: at the last timestep, where the input is all noise, "+
				"predicted noise says nothing of the image", name)
	}
	if err := o.Validate(); err != nil {
		return Schedule{}, fmt.Errorf("scheduler %s: %w", name, err)
	}
	begin := max(steps-stepsMade(steps, o.Strength), 0)
	if steps > 0 && begin == steps {
		return Schedule{}, fmt.Errorf("scheduler %s: strength %g leaves none of %d steps: use at least %d",
			name, o.Strength, steps, leastSteps(o.Strength))
	}
	if c.UseDynamicShifting && o.Mu == nil && o.LatentSize[0] > 0 {
		mu := c.Mu(o.LatentSize)
		o.Mu = &mu
	}
	out, err := s.builds(c, steps, begin, o)
	if err != nil {
		return Schedule{}, fmt.Errorf("scheduler %s: %w", name, err)
	}
	out.Steps = steps - begin
	return out, nil
}

// stepsMade is how many of the steps image to image makes at a strength.
func stepsMade(steps int, strength float64) int { return min(int(float64(steps)*strength), steps) }

// leastSteps is the smallest number of steps of which image to image makes one at a strength.
func leastSteps(strength float64) int {
	steps := int(1 / strength)
	for stepsMade(steps, strength) < 1 {
		steps++
	}
	return steps
}

// schedulerNamed finds a scheduler.
func schedulerNamed(name string) (scheduler, error) {
	var names []string
	for _, s := range schedulers() {
		if strings.EqualFold(name, s.name) || name == s.class {
			return s, nil
		}
		names = append(names, s.name)
		if s.set == nil {
			names = append(names, s.class)
		}
	}
	const longest = 64 // no name is longer
	if len(name) > longest {
		name = name[:longest] + "…"
	}
	far := map[string]int{}
	for _, other := range names {
		far[other] = suggest.Edits(strings.ToLower(name), strings.ToLower(other))
	}
	slices.SortStableFunc(names, func(a, b string) int { return far[a] - far[b] })
	return scheduler{}, fmt.Errorf("scheduler %q: unknown; the nearest are %s", name, strings.Join(names[:5], ", "))
}

// Name is the short name of a scheduler that a short name, a class of diffusers or, where name is "", a config asks
// for; what is unknown stays as it is.
func Name(name string, c noise.Config) string {
	if name == "" {
		name = c.ClassName
	}
	s, err := schedulerNamed(name)
	if err != nil {
		return name
	}
	if karras := s.name + "_karras"; s.set == nil && c.UseKarrasSigmas && slices.Contains(Names(), karras) {
		return karras
	}
	return s.name
}
