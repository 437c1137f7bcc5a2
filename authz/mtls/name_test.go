package mtls

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"unicode/utf8"
)

// encoded gives the DER of a name. Types are by their number.
func encoded(t testing.TB, steps ...pkix.RelativeDistinguishedNameSET) []byte {
	t.Helper()
	der, err := asn1.Marshal(pkix.RDNSequence(steps))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func step(attributes ...pkix.AttributeTypeAndValue) pkix.RelativeDistinguishedNameSET {
	return attributes
}

func at(value any, id ...int) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: id, Value: value}
}

func cn(value any) pkix.AttributeTypeAndValue { return at(value, 2, 5, 4, 3) }
func o(value any) pkix.AttributeTypeAndValue  { return at(value, 2, 5, 4, 10) }

func TestDistinguishedName(t *testing.T) {
	for _, x := range []struct {
		der  []byte
		want string
	}{
		{encoded(t), ""},
		{encoded(t, step(cn("ann"))), "CN=ann"},
		{encoded(t, step(at("DE", 2, 5, 4, 6)), step(o("Corp")), step(cn("ann"))), "CN=ann,O=Corp,C=DE"},
		{encoded(t, step(cn("ann")), step(o("Corp"))), "O=Corp,CN=ann"},
		{encoded(t, step(o("Corp"), cn("ann"))), "CN=ann+O=Corp"}, // a SET is sorted by DER
		{encoded(t, step(cn("a")), step(cn("b"))), "CN=b,CN=a"},
		{encoded(t, step(cn("a,CN=b"))), `CN=a\,CN\=b`},
		{encoded(t, step(cn("a+O=b"))), `CN=a\+O\=b`},
		{encoded(t, step(cn(`"<\>;`))), `CN=\"\<\\\>\;`},
		{encoded(t, step(cn("#61"))), `CN=\#61`},
		{encoded(t, step(cn(" a b "))), `CN=\ a b\ `},
		{encoded(t, step(cn(" "))), `CN=\ `},
		{encoded(t, step(cn("a\nb\x00\x7f\u0085"))), `CN=a\0ab\00\7f\c2\85`},
		{encoded(t, step(cn("Jürgen ☃"))), "CN=Jürgen ☃"},
		{encoded(t, step(cn("system:node:n1")), step(o("system:nodes"))), `O=system\3anodes,CN=system\3anode\3an1`},
		{encoded(t, step(cn(5))), "CN=#020105"},
		{encoded(t, step(cn("5"))), "CN=5"},
		{encoded(t, step(at("x", 1, 2, 3, 4))), "1.2.3.4=x"},
		{encoded(t, step(at("corp", 0, 9, 2342, 19200300, 100, 1, 25)), step(at("ann", 0, 9, 2342, 19200300, 100, 1, 1))), "UID=ann,DC=corp"},
	} {
		if got, err := distinguishedName(x.der, ':'); err != nil || got != x.want {
			t.Errorf("got %s, %v, want %s", got, err, x.want)
		}
	}
	for _, bad := range [][]byte{nil, {0x30}, append(encoded(t, step(cn("a"))), 0), {0x30, 2, 0x31, 0}} {
		if got, err := distinguishedName(bad, ':'); err == nil {
			t.Errorf("%x is %s", bad, got)
		}
	}
}

// Two names that are written alike are alike: their steps, attributes, types and
// values, though a string may have been encoded as another kind of string.
func FuzzDistinguishedName(f *testing.F) {
	f.Add("ann", "Corp", uint8(0), uint8(0))
	f.Add("a,O=b", "c", uint8(1), uint8(1))
	f.Add(`a\`, `,b`, uint8(2), uint8(0))
	f.Fuzz(func(t *testing.T, a, b string, shapeA, shapeB uint8) {
		if !utf8.ValidString(a) || !utf8.ValidString(b) {
			t.Skip()
		}
		shapes := func(shape uint8) []byte {
			switch shape % 5 {
			case 0:
				return encoded(t, step(cn(a)), step(o(b)))
			case 1:
				return encoded(t, step(cn(a), o(b)))
			case 2:
				return encoded(t, step(cn(a+b)))
			case 3:
				return encoded(t, step(cn(a+",O="+b)))
			default:
				return encoded(t, step(o(b)), step(cn(a)))
			}
		}
		one, other := shapes(shapeA), shapes(shapeB)
		x, err := distinguishedName(one, ':')
		if err != nil {
			t.Fatal(err)
		}
		y, err := distinguishedName(other, ':')
		if err != nil {
			t.Fatal(err)
		}
		if x == y && !bytes.Equal(one, other) {
			t.Errorf("%x and %x are both %s", one, other, x)
		}
		if strings.ContainsAny(x, ":\n\x00") || !utf8.ValidString(x) {
			t.Errorf("%q", x)
		}
	})
}

// What is no name is an error, whatever it is.
func FuzzDistinguishedNameDER(f *testing.F) {
	f.Add(encoded(f, step(cn("ann"), o("Corp"))))
	f.Add([]byte{0x30, 2, 0x31, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		if s, err := distinguishedName(der, ':'); err == nil && (strings.Contains(s, ":") || !utf8.ValidString(s)) {
			t.Errorf("%x is %q", der, s)
		}
	})
}
