package condition

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"limner/data/imaging"
	"limner/internal/plaintext"
)

var poseKind = Kind{
	Name:      "pose",
	Help:      "Bodies and hands drawn from keypoints in OpenPose's JSON, as controlnet_aux draws them.",
	Keypoints: true,
	Parameters: []Parameter{
		{Name: "hands", Words: []string{"yes", "no"}, Most: 1, Help: "Whether hands are drawn."},
	},
}

// MaxKeypointText is how many bytes of keypoints are read of an image.
const MaxKeypointText = 1 << 20

// Limits of keypoints. A photograph has far fewer people, and joints outside of it are not far away.
const (
	maxPeople   = 200
	maxCanvas   = 1 << 16 // pixels each way
	mostOutside = 10      // times the canvas, from its corner
)

// Keypoints are the poses of an image's people.
type Keypoints struct {
	Width, Height int // of the canvas that the coordinates are pixels of; 0: not said, the image's
	people        []person
}

type person struct {
	body        []joint // of 18
	left, right []joint // hands of 21; nil: not seen
}

// joint is a place on the canvas, in pixels; seen is false where it is not known.
type joint struct {
	x, y float64
	seen bool
}

// ParseKeypoints reads OpenPose's JSON: people with pose_keypoints_2d of 18 joints and, if wanted,
// hand_left_keypoints_2d and hand_right_keypoints_2d of 21, each x, y and a confidence that is 0 for what was not seen.
func ParseKeypoints(raw []byte) (Keypoints, error) {
	if len(raw) > MaxKeypointText {
		return Keypoints{}, fmt.Errorf("keypoints of %d bytes: at most %d are read", len(raw), MaxKeypointText)
	}
	var file struct {
		People []struct {
			Body  []float64 `json:"pose_keypoints_2d"`
			Left  []float64 `json:"hand_left_keypoints_2d"`
			Right []float64 `json:"hand_right_keypoints_2d"`
		} `json:"people"`
		Width  int `json:"canvas_width"`
		Height int `json:"canvas_height"`
	}
	if err := plaintext.JSON(raw, &file); err != nil {
		return Keypoints{}, fmt.Errorf("keypoints: %w", err)
	}
	k := Keypoints{Width: file.Width, Height: file.Height}
	switch {
	case file.People == nil:
		return k, errors.New(`keypoints: no "people": want OpenPose's JSON`)
	case len(file.People) > maxPeople:
		return k, fmt.Errorf("keypoints of %d people: at most %d are drawn", len(file.People), maxPeople)
	case min(k.Width, k.Height) < 0 || max(k.Width, k.Height) > maxCanvas || (k.Width == 0) != (k.Height == 0):
		return k, fmt.Errorf("keypoints: a canvas of %d×%d pixels: want 1 to %d each way",
			k.Width, k.Height, maxCanvas)
	}
	for i, p := range file.People {
		var out person
		for _, part := range []struct {
			name    string
			numbers []float64
			joints  int
			to      *[]joint
		}{
			{"pose_keypoints_2d", p.Body, len(limbColours), &out.body},
			{"hand_left_keypoints_2d", p.Left, handJoints, &out.left},
			{"hand_right_keypoints_2d", p.Right, handJoints, &out.right},
		} {
			joints, err := jointsOf(part.numbers, part.joints)
			if err != nil {
				return k, fmt.Errorf("keypoints: person %d: %s: %w", i, part.name, err)
			}
			*part.to = joints
		}
		k.people = append(k.people, out)
	}
	return k, nil
}

// jointsOf reads triples of x, y and confidence; none are no joints.
func jointsOf(numbers []float64, count int) ([]joint, error) {
	if len(numbers) == 0 {
		return nil, nil
	}
	if len(numbers) != 3*count {
		return nil, fmt.Errorf("%d numbers, want %d: x, y and confidence of %d joints", len(numbers), 3*count, count)
	}
	joints := make([]joint, count)
	for i := range joints {
		joints[i] = joint{numbers[3*i], numbers[3*i+1], numbers[3*i+2] > 0}
	}
	return joints, nil
}

// Part is the part of an image that keypoints are drawn for: the image resized to ResizedWidth×ResizedHeight, and of
// that Width×Height pixels from Left and Top.
type Part struct {
	ResizedWidth, ResizedHeight int
	Left, Top, Width, Height    int
}

// Draw draws the keypoints of an image's part, which has imageWidth×imageHeight pixels.
func (c Condition) Draw(k Keypoints, imageWidth, imageHeight int, p Part) (*imaging.RGB, error) {
	if c.kind == nil || !c.kind.Keypoints {
		return nil, fmt.Errorf("condition %s is not drawn from keypoints", c)
	}
	if k.Width == 0 {
		k.Width, k.Height = imageWidth, imageHeight
	}
	for i, person := range k.people {
		for _, j := range slices.Concat(person.body, person.left, person.right) {
			away := max(math.Abs(j.x)/float64(k.Width), math.Abs(j.y)/float64(k.Height))
			if j.seen && away > mostOutside {
				return nil, fmt.Errorf("keypoints: person %d has a joint at (%g, %g), "+
					"far outside of the canvas of %d×%d", i, j.x, j.y, k.Width, k.Height)
			}
		}
	}
	out := canvas{imaging.NewRGB(p.Width, p.Height)}
	place := func(joints []joint) []joint {
		placed := make([]joint, len(joints))
		for i, j := range joints {
			placed[i] = joint{
				j.x*float64(p.ResizedWidth)/float64(k.Width) - float64(p.Left),
				j.y*float64(p.ResizedHeight)/float64(k.Height) - float64(p.Top), j.seen,
			}
		}
		return placed
	}
	for _, person := range k.people {
		out.body(place(person.body))
		if c.get("hands") == 0 {
			out.hand(place(person.left))
			out.hand(place(person.right))
		}
	}
	return out.RGB, nil
}

// limbs are the pairs of joints that are joined, each in the colour of its place.
var limbs = [17][2]int{
	{1, 2}, {1, 5}, {2, 3}, {3, 4}, {5, 6}, {6, 7}, {1, 8}, {8, 9}, {9, 10}, {1, 11}, {11, 12}, {12, 13}, {1, 0},
	{0, 14}, {14, 16}, {0, 15}, {15, 17},
}

// limbColours are those of the joints too.
var limbColours = [18]rgb{
	{255, 0, 0}, {255, 85, 0}, {255, 170, 0}, {255, 255, 0}, {170, 255, 0}, {85, 255, 0}, {0, 255, 0}, {0, 255, 85},
	{0, 255, 170}, {0, 255, 255}, {0, 170, 255}, {0, 85, 255}, {0, 0, 255}, {85, 0, 255}, {170, 0, 255}, {255, 0, 255},
	{255, 0, 170}, {255, 0, 85},
}

// body draws limbs in dim colours, and joints over them. Discs and hands lie at whole pixels, cut off towards 0.
func (c canvas) body(joints []joint) {
	if len(joints) == 0 {
		return
	}
	const thickness, radius = 4, 4
	for i, limb := range limbs {
		a, b := joints[limb[0]], joints[limb[1]]
		if !a.seen || !b.seen {
			continue
		}
		var colour rgb
		for k, v := range limbColours[i] {
			colour[k] = uint8(int(v) * 6 / 10)
		}
		angle := math.Atan2(a.y-b.y, a.x-b.x) * 180 / math.Pi
		c.ellipse(int((a.x+b.x)/2), int((a.y+b.y)/2), int(math.Hypot(a.x-b.x, a.y-b.y)/2), thickness, int(angle),
			colour)
	}
	for i, j := range joints {
		if j.seen {
			c.disc(int(j.x), int(j.y), radius, limbColours[i])
		}
	}
}

// handJoints are those of a hand: the wrist, and four of each finger from the thumb on.
const handJoints = 21

// hand draws the fingers' edges in the colours of the rainbow, and joints over them. Joints at the left and upper edge
// of the canvas, and outside of it, are taken as not seen, as by the reference.
func (c canvas) hand(joints []joint) {
	const nearEdge, radius = 0.01, 4
	inside := func(j joint) bool {
		return j.seen && j.x > nearEdge*float64(c.Width) && j.y > nearEdge*float64(c.Height)
	}
	for edge := range len(joints) - 1 { // fingers are numbered from the wrist outwards
		a, b := joints[edge], joints[edge+1]
		if edge%4 == 0 {
			a = joints[0]
		}
		if inside(a) && inside(b) {
			c.line(point{math.Trunc(a.x), math.Trunc(a.y)}, point{math.Trunc(b.x), math.Trunc(b.y)}, rainbow(edge))
		}
	}
	for _, j := range joints {
		if inside(j) {
			c.disc(int(j.x), int(j.y), radius, rgb{0, 0, 255})
		}
	}
}

// rainbow is the colour of a hand's edge: of its hue, from 0 to 20, and full saturation.
func rainbow(edge int) rgb {
	sixth := float64(edge) / (handJoints - 1) * 6
	var colour rgb
	for i, centre := range [3]float64{0, 2, 4} { // a colour is full within a sixth of its hue, and gone from two on
		away := math.Abs(sixth - centre)
		away = min(away, 6-away)
		colour[i] = uint8(math.RoundToEven(255 * min(max(2-away, 0), 1)))
	}
	return colour
}
