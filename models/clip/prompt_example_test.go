package clip_test

import (
	"fmt"

	"limner/models/clip"
)

func ExampleParsePrompt() {
	for _, style := range clip.Styles() {
		segments, err := clip.ParsePrompt(style, "a ((red:1.5) circle:2)")
		if err != nil {
			panic(err)
		}
		fmt.Print(style, ":")
		for _, s := range segments {
			fmt.Printf(" %q×%.3g", s.Text, s.Weight)
		}
		fmt.Println()
	}
	// Output:
	// plain: "a ((red:1.5) circle:2)"×1
	// a1111: "a "×1 "red"×3 " circle"×2
	// comfy: "a "×1 "red"×1.5 " circle"×2
}

func ExampleTokenizer_EncodePrompt() {
	tok, err := clip.Standard(clip.PadEnd)
	if err != nil {
		panic(err)
	}
	e, err := tok.EncodePrompt(clip.A1111, "a (red:1.3) circle BREAK blue background")
	if err != nil {
		panic(err)
	}
	for i, row := range e.IDs {
		fmt.Println(len(row), row[:6], e.Weights[i][:6])
	}
	// Output:
	// 77 [49406 320 736 7117 49407 49407] [1 1 1.3 1 1 1]
	// 77 [49406 1746 5994 49407 49407 49407] [1 1 1 1 1 1]
}

func ExampleTokenizer_AddTokens() {
	tok, err := clip.Standard(clip.PadEnd)
	if err != nil {
		panic(err)
	}
	tok, ids, err := tok.AddTokens(clip.Placeholder{Text: "<cat-toy>", Vectors: 2})
	if err != nil {
		panic(err)
	}
	fmt.Println(ids, tok.Encode("a <cat-toy>"))
	// Output: [[49408 49409]] [320 49408 49409]
}
