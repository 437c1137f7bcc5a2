package config

import (
	"reflect"
	"testing"
)

// Whatever an endpoint can be told of who is asking needs a "public: true": a key that
// is new is one, until it is listed here as none.
func TestWhatIsCredentials(t *testing.T) {
	none := map[string]bool{"URL": true, "CA": true, "Key": true, "RealmHosts": true, "MaxConnections": true, "Fallback": true}
	if (Endpoint{}).hasCredentials() {
		t.Error("an endpoint without any has credentials")
	}
	fields := reflect.TypeFor[Endpoint]()
	for i := range fields.NumField() {
		field := fields.Field(i)
		var e Endpoint
		switch v := reflect.ValueOf(&e).Elem().Field(i); field.Type {
		case reflect.TypeFor[Secret]():
			v.Set(reflect.ValueOf(NewSecret("s3cr3t")))
		default:
			if v.Kind() != reflect.String {
				if !none[field.Name] {
					t.Errorf("%s: is it credentials?", field.Name)
				}
				continue
			}
			v.SetString("x")
		}
		if e.hasCredentials() == none[field.Name] {
			t.Errorf("%s: has credentials is %t", field.Name, e.hasCredentials())
		}
	}
}
