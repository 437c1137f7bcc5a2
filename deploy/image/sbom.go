package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"path"
	"runtime/debug"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/package-url/packageurl-go"
)

// sbomType is what scanners look for among the referrers of an image.
const sbomType = types.MediaType("application/vnd.cyclonedx+json")

// authoritiesModule is where the authorities in the image come from.
const authoritiesModule = "golang.org/x/crypto/x509roots/fallback"

// newSBOM says what an image is made of, as its binary does: weir, the modules that are
// linked into it, Go's library, and the authorities beside it.
func newSBOM(r release, arch string, weir []byte, subject v1.Descriptor) (v1.Image, error) {
	info, err := buildinfo.Read(bytes.NewReader(weir))
	if err != nil {
		return nil, fmt.Errorf("what weir for %s is made of: %w", arch, err)
	}
	sum := sha256.Sum256(weir)
	main := component(cyclonedx.ComponentTypeApplication, info.Main.Path, r.version)
	main.Name = "weir"
	main.Hashes = &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}}
	main.Properties = &[]cyclonedx.Property{{Name: "commit", Value: r.commit}, {Name: "platform", Value: "linux/" + arch}}

	parts := []cyclonedx.Component{
		component(cyclonedx.ComponentTypeLibrary, "std", strings.TrimPrefix(info.GoVersion, "go")),
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(parts, component(cyclonedx.ComponentTypeLibrary, m.Path, m.Version))
	}
	if own, ok := debug.ReadBuildInfo(); ok {
		for _, m := range own.Deps {
			if m.Path == authoritiesModule {
				parts = append(parts, component(cyclonedx.ComponentTypeData, m.Path, m.Version))
			}
		}
	}

	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{Timestamp: r.timestamp(), Component: &main}
	bom.Components = &parts
	var text bytes.Buffer
	// The newest version that scanners of a year ago read.
	if err := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
		return nil, err
	}
	return newArtifact(subject, sbomType, text.Bytes(), map[string]string{annotationCreated: r.timestamp()})
}

// component is a module of that version.
func component(kind cyclonedx.ComponentType, module, version string) cyclonedx.Component {
	namespace, name := path.Split(module)
	purl := packageurl.NewPackageURL(packageurl.TypeGolang, strings.TrimSuffix(namespace, "/"), name, version, nil, "").ToString()
	return cyclonedx.Component{Type: kind, BOMRef: purl, Name: module, Version: version, PackageURL: purl}
}
