package mtls

import (
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// attribute is one part of a name (RFC 5280, section 4.1.2.4); its value is read as
// its own tag says.
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// attributeSET is one step of a name. encoding/asn1 knows a SET by the type's name.
type attributeSET []attribute

// distinguishedName gives a DER-encoded name as RFC 2253 (now RFC 4514) writes it: the
// last step first, steps by commas, attributes of one step by "+". Unlike pkix.Name it
// keeps their order, and tells any two names apart unless they differ only in the kind
// of string that they are encoded as. also, if not 0, is one more character that is
// escaped. Errors: der is no name.
func distinguishedName(der []byte, also byte) (string, error) {
	var steps []attributeSET
	if rest, err := asn1.Unmarshal(der, &steps); err != nil {
		return "", err
	} else if len(rest) > 0 {
		return "", errors.New("more follows it")
	}
	var b strings.Builder
	for i := len(steps) - 1; i >= 0; i-- {
		if len(steps[i]) == 0 {
			return "", errors.New("a step of it is empty")
		}
		for j, a := range steps[i] {
			if j > 0 {
				b.WriteByte('+')
			}
			b.WriteString(typeName(a.Type))
			b.WriteByte('=')
			if s, ok := text(a.Value); ok {
				escape(&b, s, also)
			} else {
				b.WriteString("#" + hex.EncodeToString(a.Value.FullBytes))
			}
		}
		if i > 0 {
			b.WriteByte(',')
		}
	}
	return b.String(), nil
}

// typeName gives the name that RFC 4514, section 3 has for a type of attribute, else
// its number.
func typeName(id asn1.ObjectIdentifier) string {
	switch s := id.String(); s {
	case "2.5.4.3":
		return "CN"
	case "2.5.4.5":
		return "SERIALNUMBER" // not of the RFC; as OpenSSL and Go write it
	case "2.5.4.6":
		return "C"
	case "2.5.4.7":
		return "L"
	case "2.5.4.8":
		return "ST"
	case "2.5.4.9":
		return "STREET"
	case "2.5.4.10":
		return "O"
	case "2.5.4.11":
		return "OU"
	case "2.5.4.17":
		return "POSTALCODE" // likewise
	case "0.9.2342.19200300.100.1.1":
		return "UID"
	case "0.9.2342.19200300.100.1.25":
		return "DC"
	default:
		return s
	}
}

// text gives an attribute's value if it is a string whose characters are known.
func text(v asn1.RawValue) (string, bool) {
	if v.Class != asn1.ClassUniversal || v.IsCompound {
		return "", false
	}
	switch v.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString:
		return string(v.Bytes), utf8.Valid(v.Bytes)
	default:
		return "", false
	}
}

// escape writes a value as RFC 4514, section 2.4 has it; control characters as
// hexadecimal, so that a log shows them.
func escape(b *strings.Builder, s string, also byte) {
	for i, c := range s {
		switch {
		case c < ' ', 0x7f <= c && c <= 0x9f, also != 0 && c == rune(also):
			for _, octet := range []byte(string(c)) {
				fmt.Fprintf(b, `\%02x`, octet)
			}
		case strings.ContainsRune(`,+"\<>;=`, c), c == '#' && i == 0, c == ' ' && (i == 0 || i == len(s)-1):
			b.WriteByte('\\')
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
}
