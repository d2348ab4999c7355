import CoreML
import XCTest

@testable import MedgeKit

/// The scores of all labels as Python computes them, by a stub that answers with the sums of the image's colours.
final class ScoresTests: XCTestCase {
    struct Expected: Codable {
        let label: String
        let cosine: Float
        let softmax: Float
        let sigmoid: Float
    }

    func testScoresAreThoseOfPython() throws {
        let folder = URL(fileURLWithPath: "/package")
        let expected = try JSONDecoder().decode([Expected].self, from: Data(contentsOf: folder.appendingPathComponent("scores.json")))
        let bank = try LabelBank.load(folder.appendingPathComponent("coreml/bank.json"))
        let scores = try Classifier(package: folder, bank: bank).classify(phantom(height: 150, width: 200))
        XCTAssertEqual(scores.map { $0.label }, expected.map { $0.label })
        XCTAssertEqual(scores.count, 2)
        for (found, wanted) in zip(scores, expected) {
            XCTAssertEqual(found.cosine, wanted.cosine, accuracy: 1e-5)
            XCTAssertEqual(try XCTUnwrap(found.softmax), wanted.softmax, accuracy: 1e-4)
            XCTAssertEqual(found.sigmoid, wanted.sigmoid, accuracy: 1e-4)
        }
    }

    func testASingleLabelIsNotCertain() throws {
        let folder = URL(fileURLWithPath: "/package")
        var facts = try XCTUnwrap(
            JSONSerialization.jsonObject(with: Data(contentsOf: folder.appendingPathComponent("coreml/bank.json"))) as? [String: Any])
        facts["labels"] = Array(try XCTUnwrap(facts["labels"] as? [String]).prefix(1))
        facts["embeddings"] = Array(try XCTUnwrap(facts["embeddings"] as? [[Double]]).prefix(1))
        let bank = try JSONDecoder().decode(LabelBank.self, from: JSONSerialization.data(withJSONObject: facts))
        let scores = try Classifier(package: folder, bank: bank).classify(phantom(height: 150, width: 200))
        XCTAssertEqual(scores.count, 1)
        XCTAssertNil(scores[0].softmax)
    }

    func testAProfileThatIsNotKnownIsNamed() throws {
        let known = try LabelBank.load(URL(fileURLWithPath: "/package/coreml/bank.json"))
        let facts = try JSONEncoder().encode(known)
        let text = String(decoding: facts, as: UTF8.self).replacingOccurrences(of: known.profile, with: "eval-next")
        let bank = try JSONDecoder().decode(LabelBank.self, from: Data(text.utf8))
        XCTAssertThrowsError(try Classifier(package: URL(fileURLWithPath: "/package"), bank: bank)) {
            XCTAssertTrue($0.localizedDescription.contains("eval-next"))
        }
    }
}
