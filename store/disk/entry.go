package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"iter"

	"github.com/weir-registry/weir/store"
)

// entry is what a log says of a record: what its file is from here on.
type entry struct {
	key  string
	gone bool   // there is no record
	file []byte // what its file holds; nil if it is gone
}

// An entry is its checksum, its kind, the lengths of its key and its file, and these
// two. The checksum is of the number of the log too: an entry of another log is none.
const (
	sumLen   = 4
	entryLen = sumLen + 1 + 4 + 4 // without key and file
)

// The kinds of entries.
const (
	kindPut  = 1
	kindGone = 2
)

// appendEntry appends an entry of the log of that number to b.
func appendEntry(b []byte, log uint64, e entry) []byte {
	at := len(b)
	kind := byte(kindPut)
	if e.gone {
		kind = kindGone
	}
	b = append(b, 0, 0, 0, 0, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.key)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(e.file)))
	b = append(b, e.key...)
	b = append(b, e.file...)
	binary.BigEndian.PutUint32(b[at:], checksum(log, b[at+sumLen:]))
	return b
}

// checksum is that of an entry without its checksum.
func checksum(log uint64, b []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(binary.BigEndian.AppendUint64(nil, log), table), table, b)
}

// entries gives those that the log of that number begins with. What comes behind
// them was never acknowledged: it was torn, or is what a failed write has left.
// Its error says that another version of this program has written the log.
func entries(log uint64, b []byte) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		for len(b) >= entryLen {
			keyLen := uint64(binary.BigEndian.Uint32(b[sumLen+1:]))
			fileLen := uint64(binary.BigEndian.Uint32(b[sumLen+5:]))
			size := entryLen + keyLen + fileLen
			if size > uint64(len(b)) || binary.BigEndian.Uint32(b) != checksum(log, b[sumLen:size]) {
				return
			}
			e := entry{key: string(b[entryLen : entryLen+keyLen])}
			var err error
			switch kind := b[sumLen]; {
			case !store.ValidKey(e.key):
				err = fmt.Errorf("an entry has the key %q", e.key)
			case kind == kindPut:
				e.file = b[entryLen+keyLen : size]
			case kind == kindGone && fileLen == 0:
				e.gone = true
			default:
				err = fmt.Errorf("an entry is of the unknown kind %d", kind)
			}
			if !yield(e, err) || err != nil {
				return
			}
			b = b[size:]
		}
	}
}
