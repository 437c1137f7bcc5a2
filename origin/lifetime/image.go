package lifetime

import (
	"math"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// imageField is a field of what rules see, and its value where an image has none.
type imageField struct {
	name  string
	typed *types.Type
	none  any
}

// imageFields are all fields, in the order in which they are listed to operators; those
// that no rule can write come last.
func imageFields() []imageField {
	return []imageField{
		{"repository", types.StringType, ""},
		{"tag", types.StringType, ""},
		{"digest", types.StringType, ""},
		{"pushed_at", types.TimestampType, time.Time{}},
		{"last_pulled_at", types.TimestampType, time.Time{}},
		{"size", types.IntType, int64(0)},
		{"media_type", types.StringType, ""},
		{"annotations", types.NewMapType(types.StringType, types.StringType), map[string]string{}},
		{"referrers", types.NewListType(types.StringType), []string{}},
		{pushedRank, types.IntType, int64(math.MaxInt64)},
		{pulledRank, types.IntType, int64(math.MaxInt64)},
	}
}

// fieldNames lists the fields that rules may name.
func fieldNames() []string {
	var names []string
	for _, f := range imageFields() {
		if f.name[0] != '@' {
			names = append(names, f.name)
		}
	}
	return names
}

// imageProvider lets CEL check the fields of an image, which is a plain map.
type imageProvider struct{ types.Provider }

// FindStructType implements types.Provider.
func (p imageProvider) FindStructType(name string) (*types.Type, bool) {
	if name == imageType {
		return types.NewTypeTypeWithParam(types.NewObjectType(imageType)), true
	}
	return p.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (p imageProvider) FindStructFieldNames(name string) ([]string, bool) {
	if name == imageType {
		return fieldNames(), true
	}
	return p.Provider.FindStructFieldNames(name)
}

// FindStructFieldType implements types.Provider. A field that an image does not have is
// not set, and has the empty value of its type.
func (p imageProvider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if name != imageType {
		return p.Provider.FindStructFieldType(name, field)
	}
	for _, f := range imageFields() {
		if f.name != field {
			continue
		}
		has := func(of any) (any, bool) {
			m, _ := of.(map[string]any)
			v, ok := m[field]
			return v, ok
		}
		return &types.FieldType{
			Type:  f.typed,
			IsSet: func(of any) bool { _, ok := has(of); return ok },
			GetFrom: func(of any) (any, error) {
				if v, ok := has(of); ok {
					return v, nil
				}
				return f.none, nil
			},
		}, true
	}
	return nil, false
}

// NewValue implements types.Provider.
func (p imageProvider) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if name == imageType {
		return types.NewErr("nobody makes an image")
	}
	return p.Provider.NewValue(name, fields)
}
