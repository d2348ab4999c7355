import XCTest

@testable import MedgeKit

/// Calibrated scores say what Python says, and files that Python refuses are refused.
final class DecisionsTests: XCTestCase {
    struct Golden: Decodable {
        let cases: [Case]
        let refused: [Refused]
    }

    struct Case: Decodable {
        let name: String
        let scores: Data  // base64
        let logitScale: Double
        let logitBias: Double
        let images: [Image]
    }

    struct Image: Decodable {
        let name: String
        let embedding: [Float]
        let cosines: [Float]?
        let decision: Decision
    }

    struct Refused: Decodable {
        let name: String
        let scores: Data
    }

    private let labels = ["pneumonia", "clear lungs", "2", "malignant", "benign"]
    private let fingerprint = "golden/eval-tf"

    private func golden() throws -> Golden {
        let url = try XCTUnwrap(Bundle.module.url(forResource: "decisions", withExtension: "json"))
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(Golden.self, from: Data(contentsOf: url))
    }

    func testDecisionsAreThoseOfPython() throws {
        var count = 0
        for one in try golden().cases {
            let size = one.images[0].embedding.count
            let calibration = try ScoreCalibration(one.scores, size: size, labels: labels, fingerprint: fingerprint)
            for image in one.images {
                let logits = image.cosines?.map { Double($0) * one.logitScale + one.logitBias }
                let found = calibration.decide(embedding: image.embedding, logits: logits)
                assertSame(found, image.decision, "\(one.name), \(image.name)")
                count += 1
            }
        }
        XCTAssertGreaterThan(count, 30)
    }

    private func assertSame(_ found: Decision, _ wanted: Decision, _ name: String) {
        XCTAssertEqual(found.unlike, wanted.unlike, name)
        XCTAssertEqual(found.kind, wanted.kind, name)
        XCTAssertEqual(found.likely, wanted.likely, name)
        XCTAssertEqual(found.distance, wanted.distance, accuracy: 1e-9 * wanted.distance, name)
        XCTAssertEqual(found.findings.map { "\($0.label): \($0.says)" }, wanted.findings.map { "\($0.label): \($0.says)" }, name)
        for (ours, theirs) in zip(found.findings, wanted.findings) {
            XCTAssertEqual(ours.probability == nil, theirs.probability == nil, name)
            let expected = theirs.probability ?? 0
            XCTAssertEqual(ours.probability ?? 0, expected, accuracy: 1e-9 * expected + 1e-300, name)
        }
    }

    func testDamagedFilesAreRefused() throws {
        let golden = try golden()
        XCTAssertGreaterThan(golden.refused.count, 10)
        let size = golden.cases[0].images[0].embedding.count
        for one in golden.refused {
            XCTAssertThrowsError(
                try ScoreCalibration(one.scores, size: size, labels: Array(labels.prefix(2)), fingerprint: fingerprint), one.name
            ) { XCTAssertFalse($0.localizedDescription.contains("would be wrong here"), "\(one.name): \($0)") }
        }
    }

    func testACalibrationOfOtherScoresIsRefused() throws {
        let one = try golden().cases[0]
        let size = one.images[0].embedding.count
        for (other, name) in [(labels, "another/eval-tf"), (Array(labels.reversed()), fingerprint)] {
            XCTAssertThrowsError(try ScoreCalibration(one.scores, size: size, labels: other, fingerprint: name)) {
                XCTAssertTrue($0.localizedDescription.contains("would be wrong here"))
            }
        }
    }
}
