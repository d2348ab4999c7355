import CoreML
import XCTest

@testable import MedgeKit

/// The bundle's own golden picture through this package: pixels as in Python, the embedding within the recipe's gate.
final class GoldenTests: XCTestCase {
    struct Golden: Codable {
        let width: Int
        let height: Int
        let source: String  // base64 of RGB bytes
        let pixels: String  // base64 of the resized image
        let embedding: [Float]
        let leastCosine: Float
    }

    private func golden() throws -> Golden {
        let url = try XCTUnwrap(Bundle.module.url(forResource: "golden", withExtension: "json"))
        return try JSONDecoder().decode(Golden.self, from: Data(contentsOf: url))
    }

    /// The folder `coreml` of the bundle, in which this Swift package lies.
    private var folder: URL {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../..").standardizedFileURL
    }

    private func source(_ golden: Golden) throws -> RGBImage {
        let bytes = try XCTUnwrap(Data(base64Encoded: golden.source))
        return RGBImage(width: golden.width, height: golden.height, bytes: [UInt8](bytes))
    }

    func testPixelsAreThoseOfPython() throws {
        let golden = try golden()
        let bank = try LabelBank.load(folder.appendingPathComponent("bank.json"))
        let profile = try XCTUnwrap(Profile(rawValue: bank.profile))
        let resized = profile.resize(try source(golden), side: bank.imageSize)
        XCTAssertEqual(resized.bytes, [UInt8](try XCTUnwrap(Data(base64Encoded: golden.pixels))))
    }

    func testEmbeddingAgrees() throws {
        let golden = try golden()
        let bank = try LabelBank.load(folder.appendingPathComponent("bank.json"))
        let compiled = try MLModel.compileModel(at: folder.appendingPathComponent("MedgeVision.mlpackage"))
        let classifier = try Classifier(package: compiled, bank: bank)
        let embedding = try classifier.embed(try source(golden))
        let cosine = zip(embedding, golden.embedding).reduce(Float(0)) { $0 + $1.0 * $1.1 }
        XCTAssertGreaterThanOrEqual(cosine, golden.leastCosine)
    }
}
