package optim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Schedule multiplies the learning rate from step to step, as diffusers' get_scheduler does: flags of limner train.
// Steps is the length of the whole run. Cycles and Power of 0 mean 1.
type Schedule struct {
	Name      string  `json:"lr_scheduler" name:"lr-scheduler" default:"constant" help:"constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial or piecewise_constant." resume:"same"`
	Warmup    int     `json:"lr_warmup_steps" name:"lr-warmup-steps" default:"500" help:"Steps in which the learning rate rises from 0; not with constant." resume:"same"`
	Steps     int     `json:"num_training_steps" kong:"-" resume:"same"`
	Cycles    float64 `json:"lr_num_cycles" name:"lr-num-cycles" default:"1" help:"Of cosine_with_restarts." resume:"same"`
	Power     float64 `json:"lr_power" name:"lr-power" default:"1" help:"Of polynomial." resume:"same"`
	StepRules string  `json:"step_rules,omitempty" placeholder:"RULES" help:"Of piecewise_constant: 1:10,0.1:20,0.01 for the whole rate before step 10, and so on." resume:"same"`
}

// Schedules are the names that Schedule knows.
var Schedules = []string{"constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial",
	"piecewise_constant"}

// polynomialEnd is the learning rate that the polynomial schedule falls to.
const polynomialEnd = 1e-7

// Validate reports every setting that makes no schedule.
func (s Schedule) Validate() error {
	var errs []error
	if !slices.Contains(Schedules, s.Name) {
		errs = append(errs, fmt.Errorf("lr_scheduler: got %q, supported: %s", s.Name, strings.Join(Schedules, ", ")))
	}
	if s.Warmup < 0 {
		errs = append(errs, fmt.Errorf("lr_warmup_steps: got %d, want at least 0", s.Warmup))
	}
	if s.Name == "piecewise_constant" {
		if _, err := s.rules(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// At is the learning rate of the step with that index, counted from 0, for the base rate.
func (s Schedule) At(step int, base float64) float64 {
	return base * s.factor(step, base)
}

// WarmsUp says whether the learning rate rises at first.
func (s Schedule) WarmsUp() bool {
	return s.Warmup > 0 && s.Name != "constant" && s.Name != "piecewise_constant"
}

func (s Schedule) factor(step int, base float64) float64 {
	if s.Name == "constant" {
		return 1
	}
	if s.Name == "piecewise_constant" {
		return s.piecewise(step)
	}
	if step < s.Warmup {
		return float64(step) / float64(max(1, s.Warmup))
	}
	progress := float64(step-s.Warmup) / float64(max(1, s.Steps-s.Warmup))
	switch s.Name {
	case "linear":
		return max(0, float64(s.Steps-step)/float64(max(1, s.Steps-s.Warmup)))
	case "cosine":
		return max(0, 0.5*(1+math.Cos(math.Pi*progress))) // get_scheduler does not hand on the number of cycles here
	case "cosine_with_restarts":
		if progress >= 1 {
			return 0
		}
		return max(0, 0.5*(1+math.Cos(math.Pi*math.Mod(s.cycles()*progress, 1))))
	case "polynomial":
		if step > s.Steps {
			return polynomialEnd / base
		}
		left := 1 - progress
		return ((base-polynomialEnd)*math.Pow(left, s.power()) + polynomialEnd) / base
	default: // constant_with_warmup
		return 1
	}
}

// DependsOnSteps reports whether the learning rate of a step depends on the number of steps of the whole run.
func (s Schedule) DependsOnSteps() bool {
	return slices.Contains([]string{"linear", "cosine", "cosine_with_restarts", "polynomial"}, s.Name)
}

func (s Schedule) cycles() float64 {
	if s.Cycles == 0 {
		return 1
	}
	return s.Cycles
}

func (s Schedule) power() float64 {
	if s.Power == 0 {
		return 1
	}
	return s.Power
}

// rule is a factor that holds before a step; the last one holds for ever.
type rule struct {
	factor float64
	before int
}

func (s Schedule) rules() ([]rule, error) {
	parts := strings.Split(s.StepRules, ",")
	rules := make([]rule, len(parts))
	for i, part := range parts {
		factor, before, bounded := strings.Cut(part, ":")
		r := rule{before: math.MaxInt}
		var err error
		if r.factor, err = strconv.ParseFloat(factor, 64); err != nil || bounded == (i == len(parts)-1) {
			return nil, fmt.Errorf("step_rules: got %q, want factor:step,… and a last factor", s.StepRules)
		}
		if bounded {
			if r.before, err = strconv.Atoi(before); err != nil {
				return nil, fmt.Errorf("step_rules: got %q, want a step after the colon of %q", s.StepRules, part)
			}
		}
		rules[i] = r
	}
	return rules, nil
}

func (s Schedule) piecewise(step int) float64 {
	rules, err := s.rules()
	if err != nil {
		return 0 // Validate has refused it
	}
	for _, r := range rules {
		if step < r.before {
			return r.factor
		}
	}
	return 0
}
