package policy

import (
	"reflect"
	"sync"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/weir-registry/weir/authz"
)

// The types of what rules see. No rule can write such a name.
const (
	identityType    = "@identity"
	certificateType = "@identity.certificate"
	oidcType        = "@identity.oidc"
	requestType     = "@request"
)

// object is what a type has: names and their types, in the order in which they are
// listed to operators.
type object []struct {
	name  string
	typed *types.Type
}

// objects are all that rules may know.
func objects() map[string]object {
	texts := types.NewListType(types.StringType)
	return map[string]object{
		identityType: {
			{"authenticated", types.BoolType},
			{"id", types.StringType},
			{"username", types.StringType},
			{"groups", texts},
			{"client_ip", types.StringType},
			{"method", types.StringType},
			{"certificate", types.NewObjectType(certificateType)},
			{"oidc", types.NewObjectType(oidcType)},
		},
		certificateType: {
			{"common_name", types.StringType},
			{"organizations", texts},
			{"dns_names", texts},
			{"uris", texts},
		},
		oidcType: {
			{"provider", types.StringType},
			{"subject", types.StringType},
			{"claims", types.NewMapType(types.StringType, types.DynType)},
		},
		requestType: {
			{"action", types.StringType},
			{"operation", types.StringType},
			{"repository", types.StringType},
			{"upstream", types.StringType},
			{"tag", types.StringType},
			{"digest", types.StringType},
			{"from", types.StringType},
			{"artifact_type", types.StringType},
			{"media_type", types.StringType},
			{"size", types.IntType},
			{"time", types.TimestampType},
		},
	}
}

// declared is a types.Provider for maps of which it is known what is in them: CEL
// checks their fields as it does those of messages, and reads them out of plain maps.
type declared struct {
	types.Provider
	objects map[string]object
	fields  map[string]map[string]*types.FieldType
}

// environment is what rules are compiled in: one for all, for each program keeps the one that
// it was made in. It does not change.
var environment = sync.OnceValues(newEnvironment)

func newEnvironment() (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	d := declared{Provider: registry, objects: objects(), fields: map[string]map[string]*types.FieldType{}}
	for name, o := range d.objects {
		d.fields[name] = map[string]*types.FieldType{}
		for _, f := range o {
			d.fields[name][f.name] = field(f.name, f.typed)
		}
	}
	return cel.NewEnv(
		cel.CustomTypeProvider(d),
		cel.Variable("identity", cel.ObjectType(identityType)),
		cel.Variable("request", cel.ObjectType(requestType)),
	)
}

// field reads a field of a plain map. One that is not there, or empty, is not set, and
// has the empty value of its type.
func field(name string, typed *types.Type) *types.FieldType {
	var empty any
	switch typed.Kind() {
	case types.BoolKind:
		empty = false
	case types.StringKind:
		empty = ""
	case types.IntKind:
		empty = int64(0)
	case types.ListKind:
		empty = []string{}
	case types.TimestampKind:
		empty = time.Time{}
	default:
		empty = map[string]any{}
	}
	return &types.FieldType{
		Type: typed,
		IsSet: func(target any) bool {
			v, ok := member(target, name)
			if !ok || v == nil {
				return false
			}
			switch v := reflect.ValueOf(v); v.Kind() {
			case reflect.Map, reflect.Slice:
				return v.Len() > 0
			default:
				return !v.IsZero()
			}
		},
		GetFrom: func(target any) (any, error) {
			if v, ok := member(target, name); ok {
				return v, nil
			}
			return empty, nil
		},
	}
}

func member(target any, name string) (any, bool) {
	m, ok := target.(map[string]any)
	if !ok {
		return nil, false
	}
	v, ok := m[name]
	return v, ok
}

// FindStructType implements types.Provider.
func (d declared) FindStructType(name string) (*types.Type, bool) {
	if _, ok := d.objects[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return d.Provider.FindStructType(name)
}

// FindStructFieldNames implements types.Provider.
func (d declared) FindStructFieldNames(name string) ([]string, bool) {
	o, ok := d.objects[name]
	if !ok {
		return d.Provider.FindStructFieldNames(name)
	}
	names := make([]string, len(o))
	for i, f := range o {
		names[i] = f.name
	}
	return names, true
}

// FindStructFieldType implements types.Provider.
func (d declared) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	if fields, ok := d.fields[name]; ok {
		f, ok := fields[field]
		return f, ok
	}
	return d.Provider.FindStructFieldType(name, field)
}

// NewValue implements types.Provider.
func (d declared) NewValue(name string, fields map[string]ref.Val) ref.Val {
	if _, ok := d.objects[name]; ok {
		return types.NewErr("nobody makes a %s", name)
	}
	return d.Provider.NewValue(name, fields)
}

// seen is what rules see of a question.
func seen(who authz.Identity, what authz.Access) (cel.Activation, error) {
	return cel.NewActivation(map[string]any{"identity": who.Plain(), "request": what.Plain()})
}
