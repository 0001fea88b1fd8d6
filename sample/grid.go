package sample

import (
	"image"
	"image/color"
	"strings"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"limner/data/imaging"
)

// Grid puts images into rows on white, gap pixels apart and from the edge. Every column is as wide as its widest image
// and every row as high as its highest. Titles, if any, stand above the columns in as many lines as they need, up to
// titleLines; images may be nil, which leaves a place empty.
func Grid(rows [][]*imaging.RGB, gap int, titles ...string) *imaging.RGB {
	face := basicfont.Face7x13
	sizes := make([][]image.Point, len(rows))
	for i, row := range rows {
		for _, m := range row {
			size := image.Point{}
			if m != nil {
				size = image.Pt(m.Width, m.Height)
			}
			sizes[i] = append(sizes[i], size)
		}
	}
	widths, heights := gridLines(sizes)
	size := GridSize(sizes, gap, titles...)
	grid := imaging.NewRGB(size.X, size.Y)
	for i := range grid.Pix {
		grid.Pix[i] = 255
	}
	x, top := gap, gridTop(gap, widths, titles)
	for column, w := range widths {
		if column < len(titles) {
			for i, line := range lines(titles[column], w/face.Advance) {
				title(grid, line, face, x, gap+i*face.Height, w)
			}
		}
		y := top
		for i, row := range rows {
			if column < len(row) && row[column] != nil {
				paste(grid, row[column], x, y)
			}
			y += heights[i] + gap
		}
		x += w + gap
	}
	return grid
}

// GridSize is the size of the grid of pictures of the given sizes.
func GridSize(rows [][]image.Point, gap int, titles ...string) image.Point {
	widths, heights := gridLines(rows)
	size := image.Pt(gap, gridTop(gap, widths, titles))
	for _, w := range widths {
		size.X += w + gap
	}
	for _, h := range heights {
		size.Y += h + gap
	}
	return size
}

// gridTop is where the first row of a grid begins.
func gridTop(gap int, widths []int, titles []string) int {
	if len(titles) == 0 {
		return gap
	}
	high := 1
	for column, w := range widths[:min(len(widths), len(titles))] {
		high = max(high, len(lines(titles[column], w/basicfont.Face7x13.Advance)))
	}
	return gap + high*basicfont.Face7x13.Height + gap
}

// titleLines is the most lines that a title of a grid takes; more are cut.
const titleLines = 4

// lines breaks a title into lines of so many letters, behind a space or a sign where there is one in the second half.
// Of a title that is cut and has two words, a setting and its value, the value stays if it fits a line.
func lines(text string, letters int) []string {
	letters = max(letters, 1)
	var out []string
	for rest := []rune(text); len(rest) > 0; {
		n := min(letters, len(rest))
		if len(out) == titleLines-1 && len(rest) > n {
			_, value, _ := strings.Cut(text, " ")
			if value != "" && !strings.Contains(value, " ") && len([]rune(value)) <= letters {
				before := []rune(out[len(out)-1])
				out[len(out)-1] = string(before[:min(len(before), max(letters-2, 0))]) + ".."
				return append(out, value)
			}
			return append(out, string(rest[:max(n-2, 0)])+"..")
		}
		if n < len(rest) {
			for k := n; k > n/2; k-- {
				if strings.ContainsRune(" =_,-", rest[k-1]) {
					n = k
					break
				}
			}
		}
		out, rest = append(out, strings.TrimSpace(string(rest[:n]))), rest[n:]
	}
	return out
}

// gridLines are the widths of a grid's columns and the heights of its rows.
func gridLines(rows [][]image.Point) (widths, heights []int) {
	for _, row := range rows {
		height := 0
		for column, size := range row {
			if column == len(widths) {
				widths = append(widths, 0)
			}
			widths[column], height = max(widths[column], size.X), max(height, size.Y)
		}
		heights = append(heights, height)
	}
	return widths, heights
}

// Label is a picture of a text in black on white, as high as a line of it, for a place of a grid.
func Label(text string) *imaging.RGB {
	face := basicfont.Face7x13
	m := imaging.NewRGB(max(1, len([]rune(text)))*face.Advance, face.Height)
	for i := range m.Pix {
		m.Pix[i] = 255
	}
	title(m, text, face, 0, 0, m.Width)
	return m
}

// paste copies m to (x, y); it must fit.
func paste(grid, m *imaging.RGB, x, y int) {
	for row := range m.Height {
		copy(grid.Pix[((y+row)*grid.Width+x)*3:], m.Pix[row*m.Width*3:(row+1)*m.Width*3])
	}
}

// title writes text in black, centred over width pixels from x, its top at y.
func title(grid *imaging.RGB, text string, face *basicfont.Face, x, y, width int) {
	letters := []rune(text)
	letters = letters[:min(len(letters), width/face.Advance)]
	text = string(letters)
	drawn := image.NewGray(image.Rect(0, 0, width, face.Height))
	pen := font.Drawer{Dst: drawn, Src: image.NewUniform(color.White), Face: face}
	pen.Dot = fixed.P((width-len(letters)*face.Advance)/2, face.Ascent)
	pen.DrawString(text)
	for row := range face.Height {
		for column := range width {
			if drawn.GrayAt(column, row).Y > 0 {
				copy(grid.Pix[((y+row)*grid.Width+x+column)*3:], []uint8{0, 0, 0})
			}
		}
	}
}
