// As much of Apple's SwiftUI as the sample app names, with the signatures of Apple's documentation. It draws in words: `App.main`
// prints what stands on the screen, chooses one picture after the other of those that the command line names, runs the tasks,
// and prints the screen again.

import Foundation
@_exported import UIKit

/// What stands on the screen, and what its views wait for.
@MainActor
public final class Screen {
    public var said: [String] = []
    public var choose: ((URL) -> Void)?
    var tasks: [() async -> Void] = []
}

@MainActor @preconcurrency
public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
    func appear(on screen: Screen)
}

extension View { public func appear(on screen: Screen) { body.appear(on: screen) } }
extension View where Body == Never { public var body: Never { fatalError("this view draws itself") } }
extension Never: View { public typealias Body = Never }

@resultBuilder
public struct ViewBuilder {
    public static func buildBlock<Content: View>(_ content: Content) -> Content { content }
    public static func buildBlock<each Content: View>(_ content: repeat each Content) -> TupleView<(repeat each Content)> {
        let views = (repeat each content)
        return TupleView(views) { screen in
            @MainActor func show<V: View>(_ view: V) { view.appear(on: screen) }
            repeat show(each views)
        }
    }
    public static func buildIf<Content: View>(_ content: Content?) -> Content? { content }
    public static func buildEither<First: View, Second: View>(first: First) -> _ConditionalContent<First, Second> { .first(first) }
    public static func buildEither<First: View, Second: View>(second: Second) -> _ConditionalContent<First, Second> { .second(second) }
}

public struct EmptyView: View {
    public typealias Body = Never
    public func appear(on screen: Screen) {}
}

public struct TupleView<T> {
    let show: @MainActor (Screen) -> Void
    init(_ views: T, _ show: @escaping @MainActor (Screen) -> Void) { self.show = show }
}

extension TupleView: View {  // apart, so that a builder may make one anywhere
    public typealias Body = Never
    public func appear(on screen: Screen) { show(screen) }
}

public enum _ConditionalContent<First: View, Second: View>: View {
    public typealias Body = Never
    case first(First)
    case second(Second)
    public func appear(on screen: Screen) {
        switch self {
        case .first(let view): view.appear(on: screen)
        case .second(let view): view.appear(on: screen)
        }
    }
}

extension Optional: View where Wrapped: View {
    public typealias Body = Never
    public func appear(on screen: Screen) { self?.appear(on: screen) }
}

public struct Text: View {
    public typealias Body = Never
    let content: String
    public init<S: StringProtocol>(_ content: S) { self.content = String(content) }
    public func appear(on screen: Screen) { screen.said.append(content) }
}

public struct Image: View {
    public typealias Body = Never
    public init(uiImage: UIImage) {}
    public func resizable() -> Image { self }
    public func appear(on screen: Screen) { screen.said.append("(an image without a label)") }
}

public struct LabeledContent<Label: View, Content: View>: View {
    public typealias Body = Never
    let words: String
    public func appear(on screen: Screen) { screen.said.append(words) }
}

extension LabeledContent where Label == Text, Content == Text {
    public init<Title: StringProtocol, Value: StringProtocol>(_ title: Title, value: Value) { words = "\(title): \(value)" }
}

public struct ProgressView<Label: View, CurrentValueLabel: View>: View {
    public typealias Body = Never
    let words: String
    public func appear(on screen: Screen) { screen.said.append(words) }
}

extension ProgressView where CurrentValueLabel == EmptyView, Label == Text {
    public init<Title: StringProtocol>(_ title: Title) { words = String(title) }
}

extension ProgressView where CurrentValueLabel == EmptyView, Label == EmptyView {
    public init<Value: BinaryFloatingPoint>(value: Value?, total: Value = 1.0) { words = "" }
    public func appear(on screen: Screen) {}
}

public struct VStack<Content: View>: View {
    public typealias Body = Never
    let content: Content
    public init(alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> Content) {
        self.content = content()
    }
    public func appear(on screen: Screen) { content.appear(on: screen) }
}

public struct ScrollView<Content: View>: View {
    public typealias Body = Never
    let content: Content
    public init(@ViewBuilder content: () -> Content) { self.content = content() }
    public func appear(on screen: Screen) { content.appear(on: screen) }
}

public struct ForEach<Data: RandomAccessCollection, ID: Hashable, Content: View>: View {
    public typealias Body = Never
    let shown: [Content]
    public init(_ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: @escaping (Data.Element) -> Content) {
        precondition(Set(data.map { $0[keyPath: id] }).count == data.count, "two elements have the same id")
        shown = data.map(content)
    }
    public func appear(on screen: Screen) { shown.forEach { $0.appear(on: screen) } }
}

public enum HorizontalAlignment: Sendable { case leading, center, trailing }

public struct Font: Sendable { public static let footnote = Font() }

public protocol ShapeStyle: Sendable {}
public struct HierarchicalShapeStyle: ShapeStyle {}
extension ShapeStyle where Self == HierarchicalShapeStyle {
    public static var primary: HierarchicalShapeStyle { HierarchicalShapeStyle() }
    public static var secondary: HierarchicalShapeStyle { HierarchicalShapeStyle() }
}

public protocol PrimitiveButtonStyle {}
public struct BorderedProminentButtonStyle: PrimitiveButtonStyle {}
extension PrimitiveButtonStyle where Self == BorderedProminentButtonStyle {
    public static var borderedProminent: BorderedProminentButtonStyle { BorderedProminentButtonStyle() }
}

struct Labelled: View {
    typealias Body = Never
    let label: String
    func appear(on screen: Screen) { screen.said.append(label) }
}

struct Tasked<Content: View>: View {
    typealias Body = Never
    let content: Content
    let action: @Sendable () async -> Void
    func appear(on screen: Screen) {
        content.appear(on: screen)
        screen.tasks.append(action)
    }
}

extension View {
    public func padding() -> some View { self }
    public func scaledToFit() -> some View { self }
    public func font(_ font: Font?) -> some View { self }
    public func foregroundStyle<S: ShapeStyle>(_ style: S) -> some View { self }
    public func buttonStyle<S: PrimitiveButtonStyle>(_ style: S) -> some View { self }
    public func accessibilityLabel<S: StringProtocol>(_ label: S) -> some View { Labelled(label: String(label)) }
    public func task<T: Equatable>(
        id value: T, priority: TaskPriority = .userInitiated, @_inheritActorContext _ action: @escaping @Sendable () async -> Void
    ) -> some View { Tasked(content: self, action: action) }
}

@propertyWrapper
public struct Binding<Value> {
    let get: () -> Value
    let set: (Value) -> Void
    public var wrappedValue: Value {
        get { get() }
        nonmutating set { set(newValue) }
    }
}

@propertyWrapper
public struct State<Value> {
    private final class Place {
        var value: Value
        init(_ value: Value) { self.value = value }
    }

    private let place: Place
    public init(wrappedValue value: Value) { place = Place(value) }
    public var wrappedValue: Value {
        get { place.value }
        nonmutating set { place.value = newValue }
    }
    public var projectedValue: Binding<Value> { Binding(get: { place.value }, set: { place.value = $0 }) }
}

extension State where Value: ExpressibleByNilLiteral { public init() { self.init(wrappedValue: nil) } }

@MainActor @preconcurrency
public protocol Scene { func appear(on screen: Screen) }

public struct WindowGroup<Content: View>: Scene {
    let content: Content
    public init(@ViewBuilder content: () -> Content) { self.content = content() }
    public func appear(on screen: Screen) { content.appear(on: screen) }
}

@MainActor @preconcurrency
public protocol App {
    associatedtype Body: Scene
    var body: Body { get }
    init()
}

extension App {
    public static func main() async throws {
        let scene = Self().body
        func drawn() throws -> Screen {
            let screen = Screen()
            scene.appear(on: screen)
            print(String(decoding: try JSONEncoder().encode(screen.said), as: UTF8.self))
            return screen
        }
        var screen = try drawn()
        for path in CommandLine.arguments.dropFirst() {
            screen.choose?(URL(fileURLWithPath: path))
            for task in screen.tasks { await task() }
            screen = try drawn()
        }
    }
}
