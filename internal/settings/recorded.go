package settings

import (
	"reflect"
	"strings"
)

// EachRecorded calls visit with every field that the JSON of a settings struct holds, those of structs in it too, and
// with the keys that lead to it.
func EachRecorded(settings reflect.Type, visit func(keys []string, field reflect.StructField)) {
	eachRecorded(settings, nil, visit)
}

func eachRecorded(t reflect.Type, outer []string, visit func(keys []string, field reflect.StructField)) {
	for i := range t.NumField() {
		field, inner := t.Field(i), t.Field(i).Type
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		keys := append(outer[:len(outer):len(outer)], key)
		switch {
		case key == "-" || !field.IsExported():
		case field.Anonymous && key == "":
			eachRecorded(inner, outer, visit)
		case inner.Kind() == reflect.Struct:
			eachRecorded(inner, keys, visit)
		default:
			visit(keys, field)
		}
	}
}
