package conformance

import (
	"go/ast"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// An advisory is a past failure of registries, of their clients or of libraries, and
// where it is proven that it is none here.
type advisory struct {
	name, failure string
	proofs        []string // room and test; none: why says why
	why           string
}

// advisories are those that are known.
func advisories() []advisory {
	return []advisory{
		// distribution
		{name: "CVE-2017-11468", failure: "no limit on what is sent", proofs: []string{"cmd/weir TestCVE201711468", "origin TestManifestLimits", "origin/serve TestSizes"}},
		{name: "CVE-2023-2253", failure: "pages as long as they are asked for", proofs: []string{"cmd/weir TestCVE20232253"}},
		{name: "GHSA-qq97-vm5h-rrhg, CVE-2021-41190", failure: "bytes that are image and index", proofs: []string{"origin TestCheckManifest"}},
		{name: "CVE-2025-24976", failure: "a key in a token's header", proofs: []string{"authz/token TestCVE202524976", "authz/oidc TestHeaderKeysAreIgnored"}},
		{name: "CVE-2026-33540", failure: "a realm that is told the password", proofs: []string{"origin/remote TestNoCredentialLeaves", "cmd/weir TestNobodysWordIsDialled"}},
		{name: "CVE-2026-35172", failure: "deleted here, back by a read elsewhere", proofs: []string{"cmd/weir TestCVE202635172"}},
		{name: "CVE-2026-41888", failure: "a switch that one spelling of a deletion obeys", proofs: []string{"cmd/weir TestCVE202641888", "origin/local TestDeleteOff"}},
		{name: "distribution #2367, #1356", failure: "a shared blob goes while it is read", proofs: []string{"cmd/weir TestSharedBlobIsReadWhole"}},
		// zot
		{name: "CVE-2024-39897", failure: "a blob by any repository", proofs: []string{"cmd/weir TestCVE202439897", "cmd/weir TestRights"}},
		{name: "CVE-2025-23208", failure: "groups that are never taken away", proofs: []string{"authz/policy TestGroupsChange", "authz/oidc TestRevokedGroups"}},
		{name: "CVE-2025-48374", failure: "a secret in the log", proofs: []string{"cmd/weir TestSecretsStaySecret"}},
		{name: "CVE-2026-31801", failure: "a tag that is written over by who may not", proofs: []string{"cmd/weir TestCVE202641888", "origin/local TestImmutableTagOneWinner"}},
		{name: "GHSA-qg67-7m6v-qg25", failure: "a token to push deletes", proofs: []string{"cmd/weir TestMatrix", "authz TestScope"}},
		// Harbor
		{name: "CVE-2019-16097", failure: "fields that nobody should set", why: "there is no address that takes a document of an administrator"},
		{name: "CVE-2020-29662", failure: "the catalog by another path", proofs: []string{"cmd/weir TestNothingElseIsMounted"}},
		{name: "CVE-2020-13788", failure: "an address that is tried out", proofs: []string{"cmd/weir TestWebhookGoesNowhereElse", "cmd/weir TestWhereAnIssuerLeads"}},
		{name: "CVE-2022-31667, CVE-2024-22278, CVE-2022-31668", failure: "the id of somebody else's", proofs: []string{"cmd/weir TestSessionTheft"}},
		{name: "CVE-2023-20902", failure: "a comparison that tells", proofs: []string{"authz/basic TestUnknownCostsTheSame", "authz/basic TestUnknownTakesAsLong"}},
		{name: "CVE-2024-22244, CVE-2025-32019, CVE-2025-30086", failure: "what pages show and where they lead", why: "there are no pages, and no filters"},
		{name: "Harbor #23681", failure: "a right by the beginning of a name", proofs: []string{"cmd/weir TestHarbor23681"}},
		{name: "GHSA-prh4-vhfh-24mj, CVE-2026-4404", failure: "secrets in the audit log; a password by default", proofs: []string{"cmd/weir TestSecretsStaySecret", "authz/policy TestBuiltIn"}},
		{name: "Harbor #19257, #18270", failure: "an outage that hides what is cached", proofs: []string{"cmd/weir TestOutage", "mirror TestOutage"}},
		// clients and libraries
		{name: "CVE-2020-15157, CVE-2026-49349", failure: "layers with urls are fetched", proofs: []string{"cmd/weir TestNobodysWordIsDialled"}},
		{name: "GHSA-qv35-3gw6-8q4j", failure: "another manifest than was asked for", proofs: []string{"origin/remote TestManifestThatIsNotWhatItShouldBe"}},
		{name: "CVE-2026-48978, CVE-2026-50151, GHSA-vh4v-2xq2-g5cg", failure: "redirects that keep the login", proofs: []string{"origin/remote TestNoCredentialLeaves"}},
		{name: "GHSA-f36w-mj3v-6jqv", failure: "sizes that are believed", proofs: []string{"origin TestCheckManifest"}},
		{name: "go-containerregistry #2193, #2440", failure: "names that lead inside", proofs: []string{"cmd/weir TestNobodysWordIsDialled", "origin/remote/egress TestOwnNameLeadsToNoMetadata"}},
		{name: "CVE-2024-3727", failure: "digests that are paths", proofs: []string{"origin TestParseDigest", "origin/serve TestHostilePaths"}},
		{name: "CVE-2023-25153, CVE-2023-46737, CVE-2024-29893", failure: "answers without an end", proofs: []string{"origin/remote TestEndlessListing", "origin/remote TestTokensAreBounded", "authz/oidc TestDocumentsWithoutAnEnd"}},
		{name: "CVE-2024-23332", failure: "an old tag served as the new one", why: "not defended against: weir explain says when a tag was checked, and where"},
		{name: "CVE-2025-27144, CVE-2026-34986, CVE-2025-30204, CVE-2024-51744, CVE-2025-22868", failure: "tokens that cost much to read", proofs: []string{"authz/oidc TestWhatIsNoTokenIsCheap"}},
		{name: "GHSA-gcjh-h69q-9w9g", failure: "rules that see values of the program", proofs: []string{"authz TestPlain"}},
		{name: "CVE-2025-68121", failure: "sessions that outlive their authority", proofs: []string{"authz/mtls TestSessionsAndAuthorities"}},
		{name: "CVE-2026-39822, CVE-2026-27139", failure: "links that lead out of the root", proofs: []string{"store/disk TestPlantedLinks", "conformance TestToolchain"}},
		{name: "CVE-2025-22871", failure: "requests that two readers cut apart differently", proofs: []string{"cmd/weir TestSmuggling"}},
		{name: "CVE-2026-32283, CVE-2026-56853", failure: "floods of HTTP/2 and TLS", proofs: []string{"cmd/weir TestHTTP2Floods", "conformance TestToolchain"}},
		{name: "CVE-2025-47910", failure: "pages of other sites that pass", proofs: []string{"authz TestCrossSite"}},
		{name: "CVE-2026-42507", failure: "errors that carry what was sent", proofs: []string{"origin/observe TestLogInjection"}},
		// others
		{name: "CVE-2026-32589", failure: "uploads of others", proofs: []string{"cmd/weir TestSessionTheft", "origin/remote TestUploadsBelongToSomebody"}},
		{name: "CVE-2026-2376, CVE-2026-10517", failure: "redirects that lead inside", proofs: []string{"cmd/weir TestNobodysWordIsDialled"}},
		{name: "PROJQUAY-10504", failure: "immutable tags and deletions by digest", proofs: []string{"origin/local TestImmutableTags", "origin/lifetime TestRetainImmutable"}},
		{name: "CVE-2026-27771", failure: "a route without a lock", proofs: []string{"cmd/weir TestMatrix", "cmd/weir TestMatrixHasEveryRoute"}},
		{name: "CVE-2025-68944, CVE-2026-28699, CVE-2023-49947", failure: "other rights by another method", proofs: []string{"cmd/weir TestMatrix"}},
		{name: "CVE-2026-20896", failure: "headers of a proxy that is none", proofs: []string{"authz TestClientAddress"}},
		{name: "Pulp #1286, OpenShift #9755, #9593", failure: "mounts of what may not be pulled", proofs: []string{"cmd/weir TestPulp1286", "authz/guard TestMountIsNoOracle"}},
		{name: "CVE-2024-4956, CVE-2026-0600, CVE-2022-27907", failure: "paths that lead out", proofs: []string{"origin/serve TestHostilePaths"}},
		{name: "CVE-2025-59354, CVE-2025-59350, CVE-2025-59353, CVE-2025-59347, CVE-2025-59346, CVE-2025-59352, CVE-2026-54637", failure: "weak digests, and certificates that anything has", proofs: []string{"origin/local TestInvalidDigests", "origin/remote/egress TestTrusts"}},
		{name: "CVE-2022-47747, CVE-2026-26205, CVE-2026-30246", failure: "test routes, and keys that leave something out", proofs: []string{"cmd/weir TestNothingElseIsMounted", "authz TestKeyHoldsAllOfAnIdentity"}},
		{name: "Spegel #735", failure: "any repository with a digest that is known", proofs: []string{"cmd/weir TestRights"}},
		{name: "Artifact-Keeper #1912", failure: "half a blob that is kept", proofs: []string{"cmd/weir TestCorruptUpstream", "origin/remote TestBlobThatBreaksOff"}},
		// Angos' changelog
		{name: "Angos: fills", failure: "fills that nobody hashed", proofs: []string{"cmd/weir TestCorruptUpstream"}},
		{name: "Angos: webhook", failure: "decisions kept under half of their question", proofs: []string{"authz TestKeyHoldsAllOfAnIdentity", "authz/policy TestKeptIsTheSame"}},
		{name: "Angos: proxies", failure: "X-Forwarded-For of anybody", proofs: []string{"authz TestClientAddress"}},
		{name: "Angos: TLS", failure: "a mistake in the section is plain text", proofs: []string{"cmd/weir TestBrokenFilesDoNotStart"}},
		{name: "Angos: kid", failure: "keys fetched for each unknown one", proofs: []string{"authz/oidc TestRotation"}},
		{name: "Angos: default", failure: "deny without rules was ignored", proofs: []string{"cmd/weir TestPolicyOfAConfiguration"}},
		{name: "Angos: index", failure: "a damaged record taken for none", proofs: []string{"origin/local TestDamagedRecords"}},
	}
}

// TestAdvisories: whatever is said to be proven is proven by a test that exists.
func TestAdvisories(t *testing.T) {
	tests := map[string]bool{}
	for _, f := range sourceFiles(t) {
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && f.test && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				tests[f.room+" "+fn.Name.Name] = true
			}
		}
	}
	named := map[string]bool{}
	for _, a := range advisories() {
		if named[a.name] {
			t.Errorf("%s is listed twice", a.name)
		}
		named[a.name] = true
		if (len(a.proofs) == 0) == (a.why == "") {
			t.Errorf("%s (%s): neither proofs nor a reason, or both", a.name, a.failure)
		}
		for _, p := range a.proofs {
			if !tests[p] {
				t.Errorf("%s (%s): there is no %s", a.name, a.failure, p)
			}
		}
	}
	if len(named) < 50 {
		t.Errorf("only %d are listed", len(named))
	}
}

// TestToolchain: what Go itself got wrong is mended from this release on.
func TestToolchain(t *testing.T) {
	const minor, patch = 26, 6
	version, _, _ := strings.Cut(strings.TrimPrefix(runtime.Version(), "go1."), " ")
	parts := strings.Split(version, ".")
	m, err := strconv.Atoi(parts[0])
	p := 0
	if err == nil && len(parts) > 1 {
		p, err = strconv.Atoi(parts[1])
	}
	if err != nil {
		t.Skipf("%s is no release", runtime.Version())
	}
	if m < minor || m == minor && p < patch {
		t.Errorf("built with %s, which has known holes: go1.%d.%d has not", runtime.Version(), minor, patch)
	}
}
