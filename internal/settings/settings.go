// Package settings reads the tags of settings structs: the defaults that they say, and which fields a record of them
// holds. The command line takes its flags from the same structs, so that each default is written once.
package settings

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// Default is a T whose fields have the values of their default tags, those of structs in it too. A pointer stays nil.
func Default[T any]() T {
	var s T
	_ = SetDefaults(&s) // a tag that is no value is a mistake of ours, which the tests look for
	return s
}

// SetDefaults sets the fields of the struct that target points to, those of structs in it and of what pointers in it
// lead to, to the values of their default tags. The others stay as they are. It fails where a tag is no value of its
// field's type, and sets the other fields all the same.
func SetDefaults(target any) error {
	return setStruct(reflect.ValueOf(target).Elem())
}

func setStruct(s reflect.Value) error {
	var errs []error
	for i := range s.NumField() {
		field, value := s.Type().Field(i), s.Field(i)
		if !field.IsExported() && !field.Anonymous {
			continue
		}
		if text, ok := field.Tag.Lookup("default"); ok {
			if err := set(value, ownDefault(text)); err != nil {
				errs = append(errs, fmt.Errorf("%s.%s: default %q: %w", s.Type(), field.Name, text, err))
			}
		} else if value.Kind() == reflect.Struct {
			errs = append(errs, setStruct(value))
		} else if value.Kind() == reflect.Pointer && !value.IsNil() && value.Elem().Kind() == reflect.Struct {
			errs = append(errs, setStruct(value.Elem()))
		}
	}
	return errors.Join(errs...)
}

// named is a default that commands may replace by a value of that name.
var named = regexp.MustCompile(`^\$\{\w+=(.*)\}$`)

// ownDefault is the default where no command replaces it.
func ownDefault(text string) string {
	if m := named.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return text
}

func set(value reflect.Value, text string) error {
	if t, ok := value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return t.UnmarshalText([]byte(text))
	}
	switch value.Kind() {
	case reflect.String:
		value.SetString(text)
		return nil
	case reflect.Bool:
		x, err := strconv.ParseBool(text)
		value.SetBool(x)
		return err
	case reflect.Int, reflect.Int64:
		x, err := strconv.ParseInt(text, 10, 64)
		value.SetInt(x)
		return err
	case reflect.Uint64:
		x, err := strconv.ParseUint(text, 10, 64)
		value.SetUint(x)
		return err
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		value.SetFloat(x)
		return err
	case reflect.Slice:
		parts := strings.Split(text, ",")
		value.Set(reflect.MakeSlice(value.Type(), len(parts), len(parts)))
		for i, part := range parts {
			if err := set(value.Index(i), part); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("a field of type %s has no default by a tag", value.Type())
}
