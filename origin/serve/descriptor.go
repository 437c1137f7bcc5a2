package serve

import (
	"encoding/json"
	"slices"
	"strconv"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// appendDescriptor appends a descriptor as JSON, as encoding/json writes it. A page of
// referrers has a thousand; reflection costs ten times as much.
func appendDescriptor(b []byte, d v1.Descriptor) ([]byte, error) {
	if d.URLs != nil || d.Data != nil || d.Platform != nil {
		text, err := json.Marshal(d)
		return append(b, text...), err
	}
	b = appendString(append(b, `{"mediaType":`...), d.MediaType)
	b = appendString(append(b, `,"digest":`...), d.Digest.String())
	b = strconv.AppendInt(append(b, `,"size":`...), d.Size, 10)
	if len(d.Annotations) > 0 {
		var few [8]string // without a slice on the heap
		keys := few[:0]
		for key := range d.Annotations {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		b = append(b, `,"annotations":{`...)
		for i, key := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(append(appendString(b, key), ':'), d.Annotations[key])
		}
		b = append(b, '}')
	}
	if d.ArtifactType != "" {
		b = appendString(append(b, `,"artifactType":`...), d.ArtifactType)
	}
	return append(b, '}'), nil
}

// appendString appends a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string always can be
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
